package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/seal"
)

// wires connects directory processes and those who ask them in memory, so that
// they run in virtual time (testing/synctest).
type wires struct {
	mu    sync.Mutex
	ports map[string]*port
	mute  map[string]bool // hosts that take connections and never answer
}

// port is one process's listener.
type port struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.calls:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *port) Addr() net.Addr { return &net.TCPAddr{} }

func newWires() *wires { return &wires{ports: map[string]*port{}, mute: map[string]bool{}} }

func (w *wires) listen(host string) net.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &port{calls: make(chan net.Conn), closed: make(chan struct{})}
	w.ports[host+":80"] = p
	return p
}

func (w *wires) setMute(host string, mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute[host+":80"] = mute
}

func (w *wires) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	p, mute := w.ports[addr], w.mute[addr]
	w.mu.Unlock()
	ours, theirs := net.Pipe()
	switch {
	case mute:
		return ours, nil // nobody reads what is written to it
	case p == nil:
		return nil, errors.New("no route to " + addr)
	}
	select {
	case p.calls <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("connection refused by " + addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *wires) client() *http.Client {
	return &http.Client{Timeout: feedTimeout, Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}}
}

// council is the directory processes of a network, one authority each, the
// first of which leads.
type council struct {
	*testing.T
	*wires
	signers []*seal.Signer
	trust   directory.Trust
	all     []*Authority // nil: down
	dirs    []string
	stores  map[int]registry.Store // of those that have one
	alone   bool                   // they do not know each other
	watched watched
	cries   bool // makes bulletins
	bend    map[int]func(*directory.Bulletin)
}

func host(i int) string { return "authority-" + strconv.Itoa(i) }

func newCouncil(t *testing.T, n, threshold int) *council {
	return begin(t, n, threshold, 0, 0, false)
}

// newWatched is a council whose logs witnesses watch, seen of whom must have
// cosigned.
func newWatched(t *testing.T, n, threshold, witnesses, seen int) *council {
	return begin(t, n, threshold, witnesses, seen, false)
}

func begin(t *testing.T, n, threshold, witnesses, seen int, cries bool) *council {
	return assemble(t, n, threshold, witnesses, seen, cries, nil)
}

// bent is a council of which some say in their bulletins what they please.
func bent(t *testing.T, n, threshold int, bend map[int]func(*directory.Bulletin)) *council {
	return assemble(t, n, threshold, 0, 0, true, bend)
}

func assemble(t *testing.T, n, threshold, witnesses, seen int, cries bool, bend map[int]func(*directory.Bulletin)) *council {
	c := &council{T: t, cries: cries, bend: bend, wires: newWires(), trust: directory.Trust{Network: localName, Threshold: threshold}}
	for i := range n {
		s, err := newSigner(prng.FromUint64(uint64(i)), "authority")
		if err != nil {
			t.Fatal(err)
		}
		c.signers = append(c.signers, s)
		c.trust.Authorities = append(c.trust.Authorities, s.Public())
		c.dirs = append(c.dirs, t.TempDir())
	}
	c.all = make([]*Authority, n)
	c.addWitnesses(witnesses, seen)
	for i := range n {
		c.start(i)
	}
	return c
}

// standing is a council whose first document, of four nodes, stands.
func standing(t *testing.T, n, threshold int) *council {
	t.Helper()
	c := newCouncil(t, n, threshold)
	c.stand()
	return c
}

func (c *council) stand() {
	c.Helper()
	c.post(0, 1, 2, 3)
	advance(3 * time.Second)
	c.want(present(), 0, 4)
}

func (c *council) start(i int) {
	c.Helper()
	var peers []string
	for j := range c.signers {
		if j != i && !c.alone {
			peers = append(peers, "http://"+host(j))
		}
	}
	var err error
	c.all[i], err = StartAuthority(AuthorityConfig{
		Network: localName, Signers: c.signers[i : i+1], Threshold: c.trust.Threshold, Total: len(c.trust.Authorities),
		Peers: peers, Trust: c.trust, StateDir: c.dirs[i], Store: c.stores[i], WitnessURLs: c.watched.urls,
		listener: c.listen(host(i)), client: c.client(), silent: !c.cries, bend: c.bend[i],
	})
	if err != nil {
		c.Fatal(err)
	}
}

func (c *council) stop(i int) {
	c.all[i].Close()
	c.all[i] = nil
}

func (c *council) close() {
	for i, a := range c.all {
		if a != nil {
			c.stop(i)
		}
	}
	for i, w := range c.watched.all {
		if w != nil {
			c.stopWitness(i)
		}
	}
}

// newest is the mark of what an authority serves.
func (c *council) newest(i int) directory.Mark {
	a := c.all[i]
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.published
}

// turns orders what a test does before it lets time pass with what handlers do
// then: virtual time itself orders nothing for the race detector.
var turns atomic.Int64

// advance lets virtual time pass.
func advance(d time.Duration) {
	turns.Add(1)
	<-time.After(d)
	synctest.Wait()
}

// descriptor is what node i signs now.
func descriptor(t *testing.T, i int) []byte {
	t.Helper()
	return descriptorAt(t, i, uint64(time.Now().Unix()))
}

// descriptorAt is one of a version of its own.
func descriptorAt(t *testing.T, i int, version uint64) []byte {
	t.Helper()
	cfg, err := localNode(LocalConfig{Streams: 2}, i, prng.FromUint64(99), directory.Params{})
	if err != nil {
		t.Fatal(err)
	}
	var p directory.Params
	d := &directory.Node{
		Version: version, Roles: cfg.Roles, Operator: cfg.Operator, Region: cfg.Region, Label: "label-" + cfg.Name,
		Addrs: loopbacks(1 + i), Link: cfg.Link.Public().Bytes(), Capacity: cfg.Capacity,
		Onion: []directory.OnionKey{{Epoch: p.OnionFrom(p.EpochAt(time.Now().Unix())), Key: cfg.Link.Public().Bytes()}},
	}
	if cfg.Roles.Has(directory.RoleExit) {
		d.Exit = cfg.Exit
	}
	b, err := directory.SignDescriptor(cfg.Identity, localName, d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// post gives descriptors of nodes to the processes that are up.
func (c *council) post(nodes ...int) {
	c.Helper()
	for _, i := range nodes {
		d := descriptor(c.T, i)
		for j, a := range c.all {
			if a == nil {
				continue
			}
			if lacking, err := publish(c.Context(), c.client(), []string{"http://" + host(j)}, d); err != nil || lacking != nil {
				c.Fatalf("descriptor %d at %s: %v", i, host(j), err)
			}
		}
	}
}

// ask returns what a process answers to a request.
func (c *council) ask(i int, method, path string, body []byte) (status int, answer []byte) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, "http://"+host(i)+path, bytes.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	resp, err := c.client().Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, answer
}

// want checks that all processes that are up serve one document, which clients
// believe, and returns it.
func (c *council) want(epoch uint64, revision uint32, nodes int) []byte {
	c.Helper()
	var first []byte
	for i, a := range c.all {
		if a == nil {
			continue
		}
		status, b := c.ask(i, http.MethodGet, documentPath, nil)
		if status != http.StatusOK {
			c.Fatalf("%s answers %d: %s", host(i), status, b)
		}
		d, err := directory.Verify(b, &c.trust, time.Now().Unix())
		if err != nil {
			c.Fatalf("%s: %v", host(i), err)
		}
		if d.Epoch != epoch || d.Revision != revision || d.Count != nodes {
			c.Errorf("%s serves epoch %d revision %d with %d nodes, want %d, %d and %d", host(i), d.Epoch, d.Revision, d.Count, epoch, revision, nodes)
		}
		if err := a.Err(); err != nil {
			c.Errorf("%s: %v", host(i), err)
		}
		if first == nil {
			first = b
		}
	}
	return first
}

func present() uint64 { return directory.Params{}.EpochAt(time.Now().Unix()) }

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// loopbacks is the address of node i.
func loopbacks(i int) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(i), 0, 1}), 9000)}
}

package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

const testEpoch = 500_000

var testWall = directory.Params{}.Begin(testEpoch) + 60

// world is a directory of some nodes, its servers, and who asks them.
type world struct {
	testing.TB
	signer *seal.Signer
	trust  directory.Trust
	log    bytes.Buffer
	hosts  map[string]*host
	order  []Server
	wall   int64
}

// host is one server, a way away.
type host struct {
	http.Handler
	way   time.Duration // there and back
	mu    sync.Mutex
	asked []string // paths
}

func (h *host) paths() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.asked...)
}

func newWorld(t testing.TB) *world {
	var seed [seal.SignSeedSize]byte
	prng.FromUint64(1).Stream("signer").Read(seed[:])
	signer, err := seal.NewSigner(&seed)
	if err != nil {
		t.Fatal(err)
	}
	return &world{TB: t, signer: signer, hosts: map[string]*host{}, wall: testWall,
		trust: directory.Trust{Network: "testnet", Authorities: [][]byte{signer.Public()}, Threshold: 1}}
}

// document is one of n nodes in two regions; with another salt they have other
// capacities.
func (w *world) document(epoch uint64, revision uint32, n, salt int) *directory.Document {
	w.Helper()
	var nodes []*directory.Node
	for i := range n {
		node := &directory.Node{
			ID: seal.Hash("test", binary.BigEndian.AppendUint32(nil, uint32(i))), Version: 1, Roles: directory.RoleMix,
			Addrs:    []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}), 9000)},
			Operator: fmt.Sprintf("operator-%d", i%200), Region: fmt.Sprintf("region-%d", i%2),
			Link:     make([]byte, seal.KEMPublicSize),
			Onion:    []directory.OnionKey{{Epoch: 1, Key: make([]byte, seal.KEMPublicSize)}},
			Capacity: uint32(100 + salt),
		}
		if i%3 == 0 {
			node.Roles = directory.RoleEntry | directory.RoleExit | directory.RoleMeeting
			node.Exit.Ports = []directory.PortRange{{First: 1, Last: 65535}}
		}
		nodes = append(nodes, node)
	}
	d, err := directory.Compose(directory.Header{Network: "testnet", Epoch: epoch, Revision: revision}, nodes, []*seal.Signer{w.signer}, directory.Params{}.Begin(epoch))
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// serve has a server of documents; its name begins with r if it is a replica.
func (w *world) serve(name string, documents ...*directory.Document) *host {
	shelf := &Shelf{}
	for _, d := range documents {
		shelf.Put(d)
	}
	mux := http.NewServeMux()
	shelf.Register(mux, true)
	h := &host{Handler: mux, way: 10 * time.Millisecond}
	w.hosts[name] = h
	w.order = append(w.order, Server{URL: "http://" + name, Replica: strings.HasPrefix(name, "r")})
	return h
}

// RoundTrip asks a host, in virtual time.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	h := w.hosts[r.URL.Host]
	h.mu.Lock()
	h.asked = append(h.asked, r.URL.Path)
	h.mu.Unlock()
	select {
	case <-time.After(h.way):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// reader asks all servers.
func (w *world) reader(seed uint64, partial bool) *Reader {
	w.Helper()
	keeper, err := directory.NewKeeper(w.trust, directory.Mark{})
	if err != nil {
		w.Fatal(err)
	}
	clients := make([]*http.Client, len(w.order))
	for i := range clients {
		clients[i] = &http.Client{Transport: w}
	}
	r := &Reader{Keeper: keeper, Asker: NewAsker(w.order, clients, prng.FromUint64(seed).Stream("asker"), slog.New(slog.NewTextHandler(&w.log, nil)))}
	if partial {
		r.Sample = directory.NewSample(prng.FromUint64(seed).Stream("sample"))
	}
	return r
}

// look wants a view.
func (w *world) look(r *Reader) *directory.View {
	w.Helper()
	v, err := r.Look(w.Context(), w.wall)
	if err != nil {
		w.Fatal(err)
	}
	if v == nil {
		w.Fatal("nothing new")
	}
	return v
}

// wantLog wants a line of the log that reports a server for a reason.
func (w *world) wantReport(name, reason string) {
	w.Helper()
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "server=http://"+name) && strings.Contains(line, "reason="+reason) {
			return
		}
	}
	w.Errorf("%s is not reported for %s:\n%s", name, reason, w.log.String())
}

// bubble runs a story in virtual time.
func bubble(t *testing.T, story func(w *world)) {
	synctest.Test(t, func(t *testing.T) { story(newWorld(t)) })
}

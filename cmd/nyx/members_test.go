//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/lab/stall"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/setup"
)

const (
	// failOverMost is how long the control plane may take no change and no event when one
	// of its processes dies.
	failOverMost = 2 * time.Second
	// memberTellers and memberOperators speak to the control plane at once.
	memberTellers   = 3
	memberOperators = 2
	// askAgain is after what time who had no answer of any process asks again, and askMost
	// is how long one may take.
	askAgain = 20 * time.Millisecond
	askMost  = 10 * time.Second
)

// TestKilledMembers: three control processes that are one cluster, as nyx network init
// makes them, are killed in turn while nodes tell events and operators change the
// configuration; who leads comes first. Events and changes are acknowledged again within
// two seconds. What was acknowledged is in the logs of the two that are left,
// and in that of the third when it is back: once, and all logs verify.
func TestKilledMembers(t *testing.T) {
	network := networkFiles(t, 3)
	var dirs []string
	var processes []*killed
	for i := range 3 {
		dirs = append(dirs, filepath.Join(network, "control-"+strconv.Itoa(i+1)))
		processes = append(processes, startNode(t, dirs[i]))
	}
	for _, p := range processes {
		p.await(t, p.ready, "start")
	}
	refusesStrangers(t, dirs[0])
	l := newMembersLoad(t, network, dirs)
	l.start(t)
	defer l.stop()
	l.await(t, "at first", 5)
	var left []*killed
	var pauses []float64
	for round := range *kills {
		if len(left) == 0 {
			left = processes
		}
		p := firstToDie(left)
		left = slices.DeleteFunc(slices.Clone(left), func(o *killed) bool { return o == p })
		dies := slices.Index(processes, p)
		others := slices.Delete(slices.Clone(processes), dies, dies+1)
		begun := time.Now()
		p.kill(t)
		l.await(t, "after a kill", 2) // the second of which was asked for after it
		pauses = append(pauses, time.Since(begun).Seconds())
		t.Logf("kill %d: control-%d, leader %v: each who asks has two answers after %.2f s", round+1, dies+1, p.led(), pauses[round])
		if p.led() {
			awaitLeader(t, others[0], others[1])
			t.Logf("kill %d: another leads after %.2f s", round+1, time.Since(begun).Seconds())
		}
		l.await(t, "without one", 10)
		had := l.acknowledged()
		for i, dir := range dirs {
			if i != dies {
				l.awaitLog(t, dir, had)
			}
		}
		processes[dies] = startNode(t, dirs[dies])
		processes[dies].await(t, processes[dies].ready, "come back")
		l.await(t, "with all", 5)
	}
	l.stop()
	// Other work may take the processors from those that are left, for seconds; what is
	// wrong with a fail-over is so each time.
	slices.Sort(pauses)
	if median := pauses[(len(pauses)-1)/2]; median > failOverMost.Seconds() {
		t.Errorf("changes or events are not acknowledged for %.2f s, after half of the kills, want %v", median, failOverMost)
	}
	all := l.acknowledged()
	for i, dir := range dirs {
		log := filepath.Join(dir, "keys", auditDir)
		seen := l.awaitLog(t, dir, all)
		twice := 0
		for _, times := range seen {
			if times > 1 {
				twice++
			}
		}
		if twice > 0 {
			t.Errorf("the log of control-%d has %d events more than once", i+1, twice)
		}
		wantAudit(t, "ok:", "verify", "--dir", log)
		l.checkConfiguration(t, filepath.Join(dir, "keys", daemon.OperatorFileName))
	}
	t.Logf("%d kills: %d events and %d changes acknowledged, each once in three logs; asked again %d times; pauses of %.2f s, median %.2f; nobody waited longer for an event than %.2f s, for a change than %.2f s",
		*kills, len(l.told), len(l.ordered), l.again, pauses, pauses[(len(pauses)-1)/2], l.longest[0].Seconds(), l.longest[1].Seconds())
	for _, p := range processes {
		p.end(t)
	}
}

// endMost is within what time a process that is told to stop ends.
const endMost = 5 * time.Second

// end has a process stop.
func (p *killed) end(t *testing.T) {
	t.Helper()
	over, stop := stall.After(endMost)
	defer stop()
	p.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-over:
		t.Errorf("a process that is told to stop does not end in %v", endMost)
	}
}

// A process that waits for most of the members ends when it is told to.
func TestMemberAlone(t *testing.T) {
	p := startNode(t, filepath.Join(networkFiles(t, 3), "control-1"))
	p.await(t, p.waits, "wait")
	p.end(t)
}

// await waits for a word of a process.
func (p *killed) await(t *testing.T, word <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-word:
	case <-p.ended:
		t.Fatalf("the control process does not %s: %s", what, p.said())
	case <-time.After(patience):
		t.Fatalf("the control process does not %s", what)
	}
}

// led reports whether a process has led the control plane.
func (p *killed) led() bool {
	select {
	case <-p.leads:
		return true
	default:
		return false
	}
}

// firstToDie is a leader, if one of them is.
func firstToDie(left []*killed) *killed {
	return left[max(0, slices.IndexFunc(left, (*killed).led))]
}

// awaitLeader waits until one of two has led.
func awaitLeader(t *testing.T, a, b *killed) {
	t.Helper()
	select {
	case <-a.leads:
	case <-b.leads:
	case <-time.After(patience):
		t.Fatal("no other process leads")
	}
}

// refusesStrangers: at the port for other members is nobody let in who does not show one
// of the certificates.
func refusesStrangers(t *testing.T, dir string) {
	t.Helper()
	cfg, err := setup.LoadConfig(filepath.Join(dir, "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := os.ReadFile(cfg.Plane.Store.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	own, err := tls.LoadX509KeyPair(cfg.Plane.Store.Certificate, cfg.Plane.Store.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range [][]tls.Certificate{nil, {own}} {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: shown}}}
		r, err := client.Get("https://" + cfg.Plane.Members[1].Address.String() + "/members")
		if (err == nil) != (shown != nil) {
			t.Errorf("a member asked with %d certificates answers %v", len(shown), err)
		}
		if err == nil {
			r.Body.Close()
		}
		client.CloseIdleConnections()
	}
}

// membersLoad is who speaks to three processes, to whichever answers.
type membersLoad struct {
	killLoad
	servers []mirror.Server
	dirs    []string
	ending  context.CancelFunc
	running sync.WaitGroup

	acks    []int            // of each who speaks; under mu
	grown   chan struct{}    // closed, and made anew, with each
	longest [2]time.Duration // that one waited for an answer: who tells, and operators
}

func newMembersLoad(t *testing.T, network string, dirs []string) *membersLoad {
	t.Helper()
	cfg, err := setup.LoadConfig(filepath.Join(dirs[0], "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	l := &membersLoad{dirs: dirs, acks: make([]int, memberTellers+memberOperators), grown: make(chan struct{})}
	l.told, l.ordered = map[string]bool{}, map[string]settings.Change{}
	for _, u := range cfg.Network.Controls {
		s, err := mirror.ParseServer(u)
		if err != nil {
			t.Fatal(err)
		}
		l.servers = append(l.servers, s)
	}
	return l
}

// start begins to speak.
func (l *membersLoad) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l.ending = cancel
	signer, err := setup.LoadAuthorityKey(filepath.Join(filepath.Dir(l.dirs[0]), "authority-1", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := setup.LoadConfig(filepath.Join(l.dirs[0], "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	id := directory.NodeID(signer.Public())
	for i := range memberTellers {
		clients, own, err := mirror.Guests(l.servers)
		if err != nil {
			t.Fatal(err)
		}
		teller := &killTeller{name: "load/" + strconv.Itoa(i), actor: hex.EncodeToString(id[:]), draw: rand.New(rand.NewPCG(*killSeed, uint64(i)+1))}
		hello := func(s mirror.Server) ([]byte, error) {
			return introduction(signer, cfg.Network.Trust.Network, s.Pin, own)
		}
		l.running.Go(func() {
			for ctx.Err() == nil {
				teller.next()
				if !l.until(ctx, i, func(at int) bool { return l.post(ctx, clients[at], l.servers[at], hello, teller.batch) }) {
					return
				}
				l.answered(i, func() {
					for _, subject := range teller.of {
						l.told[subject] = true
					}
				})
				teller.batch = nil
			}
		})
	}
	for i := range memberOperators {
		l.running.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				o := &daemon.SettingsOrder{ID: daemon.NewChangeID(), Set: map[string]string{settings.AdmissionPerMinute: strconv.Itoa(n%100_000 + 1)}}
				var c settings.Change
				if !l.until(ctx, memberTellers+i, func(at int) bool { return l.order(ctx, at, o, &c) }) {
					return
				}
				l.answered(memberTellers+i, func() { l.ordered[c.ID.String()] = c })
			}
		})
	}
}

func (l *membersLoad) stop() {
	l.ending()
	l.running.Wait()
}

// until asks one process after the other until one answers. Who has begun ends with ctx.
func (l *membersLoad) until(ctx context.Context, who int, ask func(at int) bool) bool {
	begun := time.Now()
	for tries := 0; ctx.Err() == nil; tries++ {
		if ask((who + tries) % len(l.servers)) {
			l.mu.Lock()
			defer l.mu.Unlock()
			kind := min(who/memberTellers, 1)
			l.longest[kind] = max(l.longest[kind], time.Since(begun))
			l.again += tries
			return true
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
		}
	}
	return false
}

// post sends a batch to a process, and introduces itself if it must.
func (l *membersLoad) post(ctx context.Context, client *http.Client, s mirror.Server, hello func(mirror.Server) ([]byte, error), batch []byte) bool {
	send := func(what string, body []byte) int {
		ctx, cancel := context.WithTimeout(ctx, askMost)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/control/v1/"+what, bytes.NewReader(body))
		if err != nil {
			return 0
		}
		answer, err := client.Do(r)
		if err != nil {
			return 0
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	status := send("events", batch)
	if status == http.StatusUnauthorized {
		if b, err := hello(s); err != nil || send("introduction", b) != http.StatusOK {
			return false
		}
		status = send("events", batch)
	}
	return status == http.StatusOK
}

// order orders a change of a process.
func (l *membersLoad) order(ctx context.Context, at int, o *daemon.SettingsOrder, c *settings.Change) bool {
	f, err := daemon.LoadOperatorFile(filepath.Join(l.dirs[at], "keys", daemon.OperatorFileName))
	if err != nil {
		return false
	}
	client, err := f.Client()
	if err != nil {
		return false
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	return (&desk{f, client}).ask(ctx, "", o, c) == nil
}

// answered counts an answer to one, and notes with the lock held what it acknowledges.
func (l *membersLoad) answered(who int, note func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	note()
	l.acks[who]++
	close(l.grown)
	l.grown = make(chan struct{})
}

// more is closed when each who speaks has had so many answers more.
func (l *membersLoad) more(n int) <-chan struct{} {
	done := make(chan struct{})
	l.mu.Lock()
	wanted := slices.Clone(l.acks)
	l.mu.Unlock()
	go func() {
		for {
			l.mu.Lock()
			enough, grown := true, l.grown
			for i := range wanted {
				enough = enough && l.acks[i] >= wanted[i]+n
			}
			l.mu.Unlock()
			if enough {
				close(done)
				return
			}
			<-grown
		}
	}()
	return done
}

func (l *membersLoad) await(t *testing.T, when string, n int) {
	t.Helper()
	select {
	case <-l.more(n):
	case <-time.After(patience):
		t.Fatalf("%s the control plane does not answer", when)
	}
}

// acknowledged is all that was.
func (l *membersLoad) acknowledged() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing(nil)
}

// awaitLog waits until the log of a process has what was acknowledged.
func (l *membersLoad) awaitLog(t *testing.T, dir string, had map[string]bool) (seen map[string]int) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		seen = readKilled(t, filepath.Join(dir, "keys", auditDir))
		var lost []string
		for what := range had {
			if seen[what] == 0 {
				lost = append(lost, what)
			}
		}
		if len(lost) == 0 {
			return seen
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d of %d that were acknowledged are not in the log of %s: %q", len(lost), len(had), filepath.Base(dir), strings.Join(lost[:min(len(lost), 3)], " "))
		}
	}
}

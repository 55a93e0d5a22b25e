//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

var (
	kills    = flag.Int("kills", 4, "how often TestKilledControl and TestKilledMembers kill")
	killSeed = flag.Uint64("kill-seed", 1, "of what they draw")
)

const (
	killTellers   = 3
	killOperators = 2
	// killEarly: of so many lives one ends while the process starts.
	killEarly = 4
)

// TestKilledControl: kill -9 of the process that has the bus, the configuration, the log
// and the index, at drawn moments and again and again in one directory, while nodes tell
// events and operators change the configuration. What was acknowledged is in the log
// once, the log verifies, the index equals it, and the configuration is what a replay of
// its changes from the first on makes.
func TestKilledControl(t *testing.T) {
	begun := time.Now()
	network := networkFiles(t, 1)
	dir := filepath.Join(network, "control-1")
	state := filepath.Join(dir, "keys")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again, with the same draws: go test ./cmd/nyx -run 'TestKilledControl$' -args -kills %d -kill-seed %d", *kills, *killSeed)
		}
	})
	l := newKillLoad(t, network)
	draw, early := rand.New(rand.NewPCG(*killSeed, 0)), 0
	for n := range *kills {
		if n%killEarly == killEarly-1 {
			l.killStarting(t, dir, time.Duration(draw.IntN(500))*time.Millisecond)
			early++
		} else {
			l.killServing(t, dir, 20+draw.IntN(180), time.Duration(draw.IntN(20_000))*time.Microsecond)
		}
	}
	// What the last one has left, which nobody has mended.
	log := filepath.Join(state, auditDir)
	left := readKilled(t, log)
	missing := l.missing(left)
	onDisk := len(l.told) + len(l.ordered) - len(missing)
	wantAudit(t, "ok:", "verify", "--dir", log)
	compareIndex(t, log, false)

	store, stop := runControl(t, dir)
	if len(missing) > 0 {
		store.awaitAll(t, missing)
	}
	l.checkConfiguration(t, filepath.Join(state, daemon.OperatorFileName))
	stop()

	wantAudit(t, "ok:", "verify", "--dir", log)
	compareIndex(t, log, true)
	seen := readKilled(t, log)
	lost, twice := slices.Sorted(maps.Keys(l.missing(seen))), []string(nil)
	for what, times := range seen {
		if times > 1 {
			twice = append(twice, what)
		}
	}
	if len(lost) > 0 {
		t.Errorf("%d were acknowledged and are not in the log: %q", len(lost), lost[:min(len(lost), 5)])
	}
	if len(twice) > 0 {
		t.Errorf("%d are in the log more than once: %q", len(twice), twice[:min(len(twice), 5)])
	}
	t.Logf("%d kills, %d of them of a process that starts: %d events and %d changes acknowledged, %d sent again; %d of these in the log after the last kill; %d lost, %d twice; %.0f s",
		*kills, early, len(l.told), len(l.ordered), l.again, onDisk, len(lost), len(twice), time.Since(begun).Seconds())
}

// killLoad is who speaks to the process, in all its lives.
type killLoad struct {
	tellers   []*killTeller
	operators []*killOperator

	mu      sync.Mutex
	told    map[string]bool            // subjects of acknowledged events
	ordered map[string]settings.Change // that were acknowledged, by id
	again   int                        // batches and changes that were sent in a life before
	left    int                        // answers until the kill
	enough  chan struct{}              // closed when there are none left
}

// killTeller tells events as a node does: what is not acknowledged is sent again.
// It is the authority, which a control process knows without a directory.
type killTeller struct {
	name   string
	server mirror.Server
	client *http.Client
	hello  func() ([]byte, error) // the introduction
	actor  string
	draw   *rand.Rand
	serial int
	batch  []byte // under way
	of     []string
}

// killOperator changes the configuration; an order that is not acknowledged is given
// again.
type killOperator struct {
	n     int
	order *daemon.SettingsOrder // under way
}

func newKillLoad(t *testing.T, network string) *killLoad {
	t.Helper()
	signer, err := setup.LoadAuthorityKey(filepath.Join(network, "authority-1", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := setup.LoadConfig(filepath.Join(network, "control-1", "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := mirror.ParseServer(cfg.Network.Controls[0])
	if err != nil {
		t.Fatal(err)
	}
	id := directory.NodeID(signer.Public())
	l := &killLoad{told: map[string]bool{}, ordered: map[string]settings.Change{}}
	for i := range killTellers {
		clients, own, err := mirror.Guests([]mirror.Server{server})
		if err != nil {
			t.Fatal(err)
		}
		l.tellers = append(l.tellers, &killTeller{
			name: "load/" + strconv.Itoa(i), server: server, client: clients[0], actor: hex.EncodeToString(id[:]),
			hello: func() ([]byte, error) { return introduction(signer, cfg.Network.Trust.Network, server.Pin, own) },
			draw:  rand.New(rand.NewPCG(*killSeed, uint64(i)+1)),
		})
	}
	for range killOperators {
		l.operators = append(l.operators, &killOperator{})
	}
	return l
}

func introduction(signer *seal.Signer, network string, server, own [seal.HashSize]byte) ([]byte, error) {
	return directory.SignIntroduction(signer, &directory.Introduction{Network: network, Time: time.Now().Unix(), Server: server, Own: own})
}

// killStarting kills a process some time after it was started.
func (l *killLoad) killStarting(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	p := startNode(t, dir)
	select {
	case <-time.After(after):
	case <-p.ended:
		t.Fatalf("the control process ends by itself: %s", p.said())
	}
	p.kill(t)
}

// killServing kills a process under load, some time after it has given so many answers.
func (l *killLoad) killServing(t *testing.T, dir string, answers int, after time.Duration) {
	t.Helper()
	p := startNode(t, dir)
	select {
	case <-p.ready:
	case <-p.ended:
		t.Fatalf("the control process does not start: %s", p.said())
	case <-time.After(patience):
		t.Fatal("the control process does not start")
	}
	f, err := daemon.LoadOperatorFile(filepath.Join(dir, "keys", daemon.OperatorFileName))
	if err != nil {
		t.Fatal(err)
	}
	client, err := f.Client()
	if err != nil {
		t.Fatal(err)
	}
	l.left, l.enough = answers, make(chan struct{})
	var load sync.WaitGroup
	for _, s := range l.tellers {
		load.Go(func() { l.tell(t, s) })
	}
	for _, o := range l.operators {
		load.Go(func() { l.order(t, o, &desk{f, client}) })
	}
	select {
	case <-l.enough:
	case <-p.ended:
		t.Errorf("the control process ends by itself: %s", p.said())
	case <-time.After(patience):
		t.Errorf("the control process does not answer: %s", p.said())
	}
	if !t.Failed() {
		<-time.After(after)
	}
	p.kill(t)
	load.Wait()
	client.CloseIdleConnections()
	if t.Failed() {
		t.FailNow()
	}
}

// answered counts an answer, and notes with the lock held what it acknowledges.
func (l *killLoad) answered(note func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	note()
	if l.left--; l.left == 0 {
		close(l.enough)
	}
}

func (l *killLoad) sentAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again++
}

// tell tells events until nobody answers.
func (l *killLoad) tell(t *testing.T, s *killTeller) {
	if s.batch != nil {
		l.sentAgain()
	}
	for {
		if s.batch == nil {
			s.next()
		}
		status, said, err := s.post("events", s.batch)
		if err == nil && status == http.StatusUnauthorized {
			var hello []byte
			if hello, err = s.hello(); err == nil {
				status, said, err = s.post("introduction", hello)
			}
			if err == nil && status == http.StatusOK {
				continue
			}
		}
		if err != nil {
			return // it is killed
		}
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", s.name, status, said)
			return
		}
		l.answered(func() {
			for _, subject := range s.of {
				l.told[subject] = true
			}
		})
		s.batch = nil
	}
}

// next makes a batch of events, ordinary ones and incidents. The subject of each is its
// own, whatever ID it may have.
func (s *killTeller) next() {
	s.of = nil
	for range 1 + s.draw.IntN(32) {
		s.serial++
		now := time.Now().UTC().Truncate(time.Millisecond)
		var drawn [10]byte
		for i := range drawn {
			drawn[i] = byte(s.draw.Uint32())
		}
		e := audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: audit.KeyEvent, Actor: s.actor, Action: "rotate", Subject: s.name + "/" + strconv.Itoa(s.serial), Count: 1}
		if s.draw.IntN(4) == 0 {
			e.Kind, e.Severity, e.Action = audit.Incident, audit.Warning, "neighbour.lost"
		}
		s.batch, s.of = pipeline.AppendBatch(s.batch, audit.Append(nil, &e)), append(s.of, e.Subject)
	}
}

func (s *killTeller) post(what string, body []byte) (status int, said string, err error) {
	r, err := s.client.Post(s.server.URL+"/control/v1/"+what, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	return r.StatusCode, string(b), err
}

// order changes the configuration until nobody answers.
func (l *killLoad) order(t *testing.T, o *killOperator, d *desk) {
	if o.order != nil {
		l.sentAgain()
	}
	for {
		if o.order == nil {
			o.n++
			o.order = &daemon.SettingsOrder{ID: daemon.NewChangeID(), Set: map[string]string{settings.AdmissionPerMinute: strconv.Itoa(o.n%100_000 + 1)}}
		}
		var c settings.Change
		if d.ask(t.Context(), "", o.order, &c) != nil {
			return
		}
		l.answered(func() { l.ordered[c.ID.String()] = c })
		o.order = nil
	}
}

// missing is what was acknowledged and is not in a log.
func (l *killLoad) missing(seen map[string]int) map[string]bool {
	out := map[string]bool{}
	for subject := range l.told {
		if seen[subject] == 0 {
			out[subject] = true
		}
	}
	for id := range l.ordered {
		if seen[id] == 0 {
			out[id] = true
		}
	}
	return out
}

// checkConfiguration compares the state of the running process with a replay from the
// first change on, and the changes with what was acknowledged.
func (l *killLoad) checkConfiguration(t *testing.T, operator string) {
	t.Helper()
	f, err := daemon.LoadOperatorFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	client, err := f.Client()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{f, client}
	ask := func(path string, answer any) {
		t.Helper()
		if err := d.ask(t.Context(), path, nil, answer); err != nil {
			t.Fatal(err)
		}
	}
	var now, replayed daemon.SettingsView
	ask("", &now)
	ask("/at?revision="+strconv.FormatUint(now.Revision, 10), &replayed)
	if now.Hash != replayed.Hash {
		t.Errorf("the configuration of revision %d has the hash %s, its replay %s", now.Revision, now.Hash, replayed.Hash)
	}
	there, again := map[string]settings.Change{}, &settings.State{}
	for again.Revision() < now.Revision {
		var some []settings.Change
		ask("/history?from="+strconv.FormatUint(again.Revision()+1, 10), &some)
		if len(some) == 0 {
			t.Fatalf("the history ends at %d of %d", again.Revision(), now.Revision)
		}
		for _, c := range some {
			if _, twice := there[c.ID.String()]; twice {
				t.Errorf("change %s has two revisions", c.ID)
			}
			there[c.ID.String()] = c
			if err := again.Fold(&c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if hash := daemon.StateHash(again); hash != now.Hash {
		t.Errorf("the configuration of revision %d has the hash %s, the fold of its history %s", now.Revision, now.Hash, hash)
	}
	for id, c := range l.ordered {
		if got := there[id]; !bytes.Equal(got.Encode(), c.Encode()) {
			t.Errorf("change %s was acknowledged as %+v, and is %+v", id, c, got)
		}
	}
}

// readKilled reads the log of a process that does not run: how often each event of the
// load is there, by its subject, and each change, by its id.
func readKilled(t *testing.T, log string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	store, _, _, err := (&auditPlace{dir: log}).open()
	if err != nil {
		t.Fatal(err)
	}
	end, err := store.End(t.Context())
	if err == nil {
		err = store.Read(t.Context(), 0, end, func(e audit.Entry) error {
			if what := killName(&e.Event); what != "" {
				seen[what]++
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// killName is the name of an event of the load; "": it is of something else.
func killName(e *audit.Event) string {
	if strings.HasPrefix(e.Subject, "load/") {
		return e.Subject
	}
	if e.Kind == audit.ConfigChange && e.Action == "set" {
		return e.Detail("message_id")
	}
	return ""
}

// compareIndex compares the index of a process that does not run with its log; whole: of
// all that the log has, else as far as the index is.
func compareIndex(t *testing.T, log string, whole bool) {
	t.Helper()
	store, _, _, err := (&auditPlace{dir: log}).open()
	if err != nil {
		t.Fatal(err)
	}
	x, err := sql.SQLite(t.Context(), filepath.Join(log, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if whole {
		_, err = x.Project(t.Context(), store)
	}
	if err == nil {
		err = x.Compare(t.Context(), store)
	}
	if err != nil {
		t.Error(err)
	}
}

// awaitAll waits until a log has been told all of the load that is missing there.
func (w *watched) awaitAll(t *testing.T, missing map[string]bool) {
	t.Helper()
	limit := time.After(patience)
	for at := 0; ; {
		w.mu.Lock()
		for ; at < len(w.events); at++ {
			delete(missing, killName(&w.events[at]))
		}
		grown := w.grown
		w.mu.Unlock()
		if len(missing) == 0 {
			return
		}
		select {
		case <-grown:
		case <-limit:
			t.Errorf("of what was acknowledged the log does not get %d events", len(missing))
			return
		}
	}
}

// killed is a process that will be.
type killed struct {
	*exec.Cmd
	ready, ended chan struct{} // closed when its control process serves, and when it is gone
	leads, waits chan struct{} // closed when it first leads the control plane, and when it waits for other members

	mu    sync.Mutex
	lines []string // of its log, that are not for information
}

// startNode starts nyx node as a process.
func startNode(t *testing.T, dir string) *killed {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &killed{Cmd: exec.Command(self, "node", "--config", filepath.Join(dir, "node.toml")), ready: make(chan struct{}), ended: make(chan struct{}), leads: make(chan struct{}), waits: make(chan struct{})}
	p.Env = append(os.Environ(), asProgram+"=1")
	out, err := p.StderrPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		said := map[string]func(){}
		for word, c := range map[string]chan struct{}{`msg="control process"`: p.ready, "this process leads the control plane": p.leads, "waits for most of the members": p.waits} {
			said[word] = sync.OnceFunc(func() { close(c) })
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			for word, come := range said {
				if strings.Contains(lines.Text(), word) {
					come()
				}
			}
			if !strings.Contains(lines.Text(), "level=INFO") {
				p.mu.Lock()
				p.lines = append(p.lines, lines.Text())
				p.mu.Unlock()
			}
		}
		p.Wait()
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *killed) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%.2000s", strings.Join(p.lines, "\n"))
}

// kill kills it, and reports what a process must not have had to mend.
func (p *killed) kill(t *testing.T) {
	t.Helper()
	p.Process.Kill()
	<-p.ended
	for _, line := range p.lines {
		if strings.Contains(line, "the index of the audit log is built anew") {
			t.Errorf("after a kill: %s", line)
		}
	}
}

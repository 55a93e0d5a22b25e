package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/wire"
)

// What cannot be told is told again, under the IDs that it has, and what came meanwhile
// after it. (Control: where counts are given away before they are taken, they are lost.)
func TestTallyLosesNothing(t *testing.T) {
	draw := prng.FromUint64(1).Stream("tally")
	fill := func(e *audit.Event) { complete(e, "control-1", draw) }
	tl := newTally(turnedEvent)
	var tried [][]audit.Event
	gone := true
	record := func(events ...audit.Event) error {
		if tried = append(tried, events); gone {
			return errors.New("the bus is gone")
		}
		return nil
	}
	one, other := turnedAway{operatorsDoor, forgedToken}, turnedAway{nodesDoor, front.NoRoom}
	for range 100_000 {
		tl.add(one, 1)
	}
	for range 3 {
		if tl.tell(fill, record) == nil {
			t.Fatal("told to nobody")
		}
		tl.add(other, 2)
	}
	gone = false
	if err := tl.tell(fill, record); err != nil {
		t.Fatal(err)
	}
	if err := tl.tell(fill, record); err != nil || len(tried) != 5 {
		t.Fatalf("%d calls, %v: what was told is told again", len(tried), err)
	}
	for i, some := range tried[:4] {
		if len(some) != 1 || some[0].ID != tried[0][0].ID || some[0].Count != 100_000 || some[0].Reason != forgedToken {
			t.Errorf("try %d: %+v", i, some)
		}
	}
	if last := tried[4]; len(last) != 1 || last[0].Count != 6 || last[0].Subject != nodesDoor {
		t.Errorf("what came meanwhile: %+v", last)
	}
}

// operator is an operator file as a test uses it.
type operator struct{ OperatorFile }

// operatedControl runs a control process with operators.
func operatedControl(t *testing.T, store *compliance, bus *fillable) (*Control, operator) {
	t.Helper()
	l := startNetwork(t, wire.Fast)
	key := [front.KeySize]byte{8}
	file := t.TempDir() + "/" + OperatorFileName
	c, err := StartControl(ControlConfig{Name: "control-1", Listen: "127.0.0.1:0", Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()}, StateDir: t.TempDir(),
		Bus: bus, Store: store, Settings: registry.NewMemory(nil, nil), Policy: (&decider{}).open, Operators: "127.0.0.1:0", OperatorFile: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f, err := LoadOperatorFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return c, operator{f}
}

// dial opens a connection that says nothing so far.
func (o operator) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(o.Address(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// status asks by a connection for the status, with the token, and returns the code of the
// answer.
func (o operator) status(t *testing.T, c net.Conn) int {
	t.Helper()
	fmt.Fprintf(c, "GET %s/status HTTP/1.1\r\nHost: %s\r\nAuthorization: %s%s\r\n\r\n", OperatorPath, c.RemoteAddr(), bearerScheme, o.Token)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// Who may use the machine and has no token locks no operator out: as many silent
// connections as may be, and more, give way to the operator's, which gives way to none.
// Nor are they there for long.
func TestSilentDoNotLockOperatorsOut(t *testing.T) {
	_, f := operatedControl(t, newCompliance(), &fillable{Bus: pipeline.NewMemory(pipeline.Limits{})})
	begun := time.Now()
	first := f.dial(t)
	for range operatorsMost - 1 {
		f.dial(t)
	}
	own := f.dial(t)
	if said := f.status(t, own); said != http.StatusOK {
		t.Errorf("an operator among silent ones is told %d", said)
	}
	if b, err := io.ReadAll(first); err != nil || len(b) != 0 {
		t.Errorf("the oldest is told %q, %v; want its end", b, err)
	}
	var last net.Conn
	for range 2 * operatorsMost {
		last = f.dial(t)
	}
	if said := f.status(t, own); said != http.StatusOK {
		t.Errorf("an operator is told %d after a flood", said)
	}
	if _, err := io.ReadAll(last); err != nil || time.Since(begun) > feedTimeout/2 {
		t.Errorf("a silent connection ends after %v, %v", time.Since(begun), err)
	}
}

// Who has not the token of operators is refused and is on the record, a flood as one
// event with its number, and while the bus takes nothing nothing is lost.
func TestRefusedOperatorsAreOnTheRecord(t *testing.T) {
	store, bus := newCompliance(), &fillable{Bus: pipeline.NewMemory(pipeline.Limits{})}
	c, f := operatedControl(t, store, bus)
	ask := func(method, path, token, host string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, f.Address()+OperatorPath+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", bearerScheme+token)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	defer http.DefaultClient.CloseIdleConnections()
	bus.full.Store(true)
	for range 50 {
		for _, path := range []string{"", "/status", "/history?from=0"} {
			if code, said := ask("GET", path, f.Token[1:]+"0", ""); code != http.StatusForbidden || !strings.Contains(said, "operator file") {
				t.Fatalf("a forged token is answered %d %q", code, said)
			}
		}
	}
	for _, path := range []string{"", "/rollback", "/retry"} {
		if code, _ := ask("POST", path, "", ""); code != http.StatusForbidden {
			t.Errorf("without a token: %d", code)
		}
	}
	if code, _ := ask("GET", "", f.Token, "attacker.example"); code != http.StatusForbidden {
		t.Errorf("a page of elsewhere: %d", code)
	}
	if code, said := ask("GET", "/status", f.Token, ""); code != http.StatusOK { // control
		t.Errorf("the operator: %d %s", code, said)
	}
	c.policy.classes.add(class{question: control.Question{Level: wire.High}, revision: "7"}, 12)
	c.tellCounts() // which is not taken
	bus.full.Store(false)
	c.tellCounts()
	got := map[string]uint64{}
	for _, e := range store.await(t, 3, audit.AdmissionRefusal, "refuse") {
		if got[e.Reason] = e.Count; e.Subject != operatorsDoor || e.Outcome != audit.Refused || e.Severity != audit.Warning || e.Actor != "control-1" {
			t.Errorf("%+v", e)
		}
	}
	if want := map[string]uint64{forgedToken: 150, noCredential: 3, foreignPage: 1}; !maps.Equal(got, want) {
		t.Errorf("on the record are %v, want %v", got, want)
	}
	if e := store.await(t, 1, audit.PolicyClass, "decide")[0]; e.Count != 12 || e.Detail("revision") != "7" {
		t.Errorf("decisions while the bus took nothing: %+v", e)
	}

	// As many connections as may be, all with the token: who comes then is told so.
	http.DefaultClient.CloseIdleConnections()
	for range operatorsMost {
		if said := f.status(t, f.dial(t)); said != http.StatusOK {
			t.Fatalf("an operator is told %d", said)
		}
	}
	if b, err := io.ReadAll(f.dial(t)); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || !strings.Contains(string(b), "come again") {
		t.Errorf("one connection too many is told %q, %v", b, err)
	}
	c.tellCounts()
	told := store.await(t, 4, audit.AdmissionRefusal, "refuse")
	if e := told[len(told)-1]; e.Subject != operatorsDoor || e.Reason != front.NoRoom {
		t.Errorf("one connection too many: %+v", e)
	}
}

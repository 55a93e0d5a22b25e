package daemon

import (
	"errors"
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

// Who has not the token of operators is refused and is on the record, a flood as one
// event with its number, and while the bus takes nothing nothing is lost.
func TestRefusedOperatorsAreOnTheRecord(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	store, bus := newCompliance(), &fillable{Bus: pipeline.NewMemory(pipeline.Limits{})}
	key := [front.KeySize]byte{8}
	file := t.TempDir() + "/" + OperatorFileName
	c, err := StartControl(ControlConfig{Name: "control-1", Listen: "127.0.0.1:0", Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()}, StateDir: t.TempDir(),
		Bus: bus, Store: store, Settings: registry.NewMemory(nil, nil), Policy: (&decider{}).open, Operators: "127.0.0.1:0", OperatorFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := LoadOperatorFile(file)
	if err != nil {
		t.Fatal(err)
	}
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

	// As many connections as may be, that say nothing: who comes then is told so.
	http.DefaultClient.CloseIdleConnections()
	var last net.Conn
	for range operatorsMost + 1 {
		if last, err = net.Dial("tcp", strings.TrimPrefix(f.Address(), "http://")); err != nil {
			t.Fatal(err)
		}
		defer last.Close()
	}
	last.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(last); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || !strings.Contains(string(b), "come again") {
		t.Errorf("one connection too many is told %q, %v", b, err)
	}
	c.tellCounts()
	told := store.await(t, 4, audit.AdmissionRefusal, "refuse")
	if e := told[len(told)-1]; e.Subject != operatorsDoor || e.Reason != front.NoRoom {
		t.Errorf("one connection too many: %+v", e)
	}
}

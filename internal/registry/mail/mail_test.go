package mail

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/pipeline/bustest"
	"github.com/nyxnet/nyx/internal/registry"
)

func open(t *testing.T, cfg Config) *Bus {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// three opens the members a, b and c of one store, the first of which sweeps.
func three(t *testing.T, store registry.Store, l pipeline.Limits) (members [3]*Bus) {
	t.Helper()
	for i := range members {
		members[i] = member(t, store, i, l)
	}
	return members
}

func member(t *testing.T, store registry.Store, i int, l pipeline.Limits) *Bus {
	t.Helper()
	return memberOf(t, store, "abc", i, l)
}

// memberOf opens one of the members with names of a letter each.
func memberOf(t *testing.T, store registry.Store, names string, i int, l pipeline.Limits) *Bus {
	t.Helper()
	cfg := Config{Store: store, Name: names[i : i+1], Members: strings.Split(names, ""), Limits: l}
	if i > 0 {
		cfg.Office = noOffice{}
	}
	return open(t, cfg)
}

// noOffice is one that another member has.
type noOffice struct{}

func (noOffice) Hold(ctx context.Context, _, _ string, _ func(context.Context)) error {
	<-ctx.Done()
	return ctx.Err()
}
func (noOffice) Holder(context.Context, string) (string, error) { return "a", nil }

// awaitStore waits until the entries below a prefix are as they should be.
func awaitStore(t *testing.T, store registry.Store, prefix string, is func([]registry.Entry) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
	defer cancel()
	for {
		var all []registry.Entry
		at, err := store.List(ctx, prefix, func(e registry.Entry) error { all = append(all, e); return nil })
		if err != nil {
			t.Fatalf("%d entries below %s: %v", len(all), prefix, err)
		}
		if is(all) {
			return
		}
		change, found := context.WithCancel(ctx)
		store.Watch(change, prefix, at, func(registry.Entry) { found() })
		found()
	}
}

// marked waits until a member has written its mark for all that it was given, and another
// has heard of it.
func marked(t *testing.T, store registry.Store, b, other *Bus) {
	t.Helper()
	b.mu.Lock()
	want := string((&reader{revision: b.read}).encode())
	b.mu.Unlock()
	awaitStore(t, store, readPrefix+b.cfg.Name, func(e []registry.Entry) bool { return len(e) == 1 && string(e[0].Value) == want })
	fences++
	fence := bustest.Messages(1000+fences, 1)
	bustest.Publish(t, other, pipeline.Incidents, fence...)
	for { // what comes to it now came to the store after the mark
		got, err := other.Receive(t.Context(), pipeline.Incidents, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Settle(t.Context(), got...); err != nil {
			t.Fatal(err)
		}
		if len(got) == 1 && got[0].ID == fence[0].ID {
			return
		}
	}
}

var fences int

const ordinary = letterPrefix + "ordinary"

func none(all []registry.Entry) bool { return len(all) == 0 }

func numbers(got []pipeline.Delivery) (out []int) {
	for i := range got {
		out = append(out, bustest.Number(&got[i].Message))
	}
	return out
}

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T, l pipeline.Limits) pipeline.Bus {
		return open(t, Config{Store: registry.NewMemory(nil, nil), Name: "a", Members: []string{"a"}, Limits: l})
	})
}

// What any member publishes comes to every one of them, in one order, and goes when all
// have settled it, not before.
func TestEveryMemberGetsAll(t *testing.T) {
	store := registry.NewMemory(nil, nil)
	all := three(t, store, pipeline.Limits{})
	const many = 60
	for i := 0; i < many; i += 5 {
		bustest.Publish(t, all[i%3], pipeline.Ordinary, bustest.Messages(i, 5)...)
	}
	var order []int
	for i, b := range all {
		got := bustest.Receive(t, b, pipeline.Ordinary, many)
		if order == nil {
			order = numbers(got)
		}
		if !slices.Equal(order, numbers(got)) {
			t.Errorf("member %d gets %v, the first %v", i, numbers(got), order)
		}
		if i == 2 {
			marked(t, store, all[0], all[0])
			marked(t, store, all[1], all[0])
			all[0].remove(t.Context(), all[0].floor())
			awaitStore(t, store, ordinary, func(e []registry.Entry) bool {
				if len(e) != many/5 {
					t.Fatalf("%d letters are left that the third member does not have, of %d", len(e), many/5)
				}
				return true
			})
		}
		if err := b.Settle(t.Context(), got...); err != nil {
			t.Fatal(err)
		}
	}
	awaitStore(t, store, ordinary, none)
}

// A member that was away gets what came meanwhile, and what it had not settled; the
// others do not wait for it.
func TestAway(t *testing.T) {
	store := registry.NewMemory(nil, nil)
	all := three(t, store, pipeline.Limits{})
	bustest.Publish(t, all[0], pipeline.Ordinary, bustest.Messages(0, 2)...)
	bustest.Publish(t, all[0], pipeline.Ordinary, bustest.Messages(2, 2)...)
	got := bustest.Receive(t, all[2], pipeline.Ordinary, 4)
	if err := all[2].Settle(t.Context(), got[0], got[1], got[3]); err != nil {
		t.Fatal(err)
	}
	all[2].Close()
	bustest.Publish(t, all[1], pipeline.Ordinary, bustest.Messages(4, 3)...)
	for _, b := range all[:2] {
		if err := b.Settle(t.Context(), bustest.Receive(t, b, pipeline.Ordinary, 7)...); err != nil {
			t.Fatal(err)
		}
	}
	back := member(t, store, 2, pipeline.Limits{})
	if got = bustest.Receive(t, back, pipeline.Ordinary, 5); !slices.Equal(numbers(got), []int{2, 3, 4, 5, 6}) {
		t.Errorf("who comes back gets %v", numbers(got))
	}
	if err := back.Settle(t.Context(), got...); err != nil {
		t.Fatal(err)
	}
	awaitStore(t, store, letterPrefix, none)
}

// doubtful is a store that does what it is told, and says that it does not know.
type doubtful struct {
	registry.Store
	doubts int
}

func (d *doubtful) Put(ctx context.Context, key string, value []byte, was int64) (int64, error) {
	revision, err := d.Store.Put(ctx, key, value, was)
	if strings.HasPrefix(key, letterPrefix) && err == nil && d.doubts > 0 {
		d.doubts--
		return 0, errors.New("the leader is gone")
	}
	return revision, err
}

// What became of a try is not known when the store changes its leader: it is repeated,
// and is there once.
func TestDoubt(t *testing.T) {
	store := &doubtful{registry.NewMemory(nil, nil), 1}
	b := open(t, Config{Store: store, Name: "a", Members: []string{"a", "b"}})
	bustest.Publish(t, b, pipeline.Ordinary, bustest.Messages(0, 3)...)
	if store.doubts != 0 {
		t.Fatal("the store was not in doubt")
	}
	bustest.WantDepth(t, b, 0, 3, 0)
	if got := bustest.Receive(t, b, pipeline.Ordinary, 3); len(got) != 3 {
		t.Errorf("%v", numbers(got))
	}
}

// The same event told to two members, as by a node whose first control process died
// before it answered, is delivered once by each.
func TestToldTwice(t *testing.T) {
	store := registry.NewMemory(nil, nil)
	all := three(t, store, pipeline.Limits{})
	bustest.Publish(t, all[0], pipeline.Ordinary, bustest.Messages(0, 2)...)
	bustest.Publish(t, all[1], pipeline.Ordinary, bustest.Messages(1, 2)...)
	for i, b := range all {
		if got := numbers(bustest.Receive(t, b, pipeline.Ordinary, 3)); !slices.Equal(got, []int{0, 1, 2}) {
			t.Errorf("member %d gets %v", i, got)
		}
	}
}

// A member that is behind by half a lane is given up while most are left, and an event
// says so; the lane has room again. Never are so many given up that less than most have
// everything: then publishers wait.
func TestGivenUp(t *testing.T) {
	store := registry.NewMemory(nil, nil)
	all := three(t, store, pipeline.Limits{Messages: 20})
	all[2].Close()
	bustest.Publish(t, all[0], pipeline.Ordinary, bustest.Messages(0, 15)...)
	for _, b := range all[:2] {
		if err := b.Settle(t.Context(), bustest.Receive(t, b, pipeline.Ordinary, 15)...); err != nil {
			t.Fatal(err)
		}
	}
	awaitStore(t, store, ordinary, none)
	for _, b := range all[:2] {
		got, err := b.Receive(t.Context(), pipeline.Incidents, 8)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d incidents, %v", len(got), err)
		}
		if e, err := audit.Parse(got[0].Payload); err != nil || e.Action != "log.gap" || e.Subject != "control/c" || e.Validate() != nil {
			t.Errorf("%+v, %v", e, err)
		}
		if err := b.Settle(t.Context(), got...); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Publish(t, all[0], pipeline.Ordinary, bustest.Messages(20, 15)...)
	if err := all[0].Settle(t.Context(), bustest.Receive(t, all[0], pipeline.Ordinary, 15)...); err != nil {
		t.Fatal(err)
	}
	marked(t, store, all[0], all[0])
	all[0].giveUp(t.Context())
	if _, err := all[0].Publish(t.Context(), pipeline.Ordinary, bustest.Messages(40, 6)...); !errors.Is(err, pipeline.ErrFull) {
		t.Errorf("with one of three who has everything: %v, want ErrFull", err)
	}
	awaitStore(t, store, readPrefix+"b", func(e []registry.Entry) bool {
		if !strings.HasSuffix(string(e[0].Value), "false") {
			t.Fatal("the second of three was given up too")
		}
		return true
	})
	back := member(t, store, 2, pipeline.Limits{Messages: 20})
	if got := bustest.Receive(t, back, pipeline.Ordinary, 15); bustest.Number(&got[0].Message) != 20 {
		t.Errorf("who comes back gets %v", numbers(got))
	}
	awaitStore(t, store, readPrefix+"c", func(e []registry.Entry) bool { return len(e) == 1 && strings.HasSuffix(string(e[0].Value), "false") })
}

// A letter is what was written, and nothing that is cut off is one.
func TestLetter(t *testing.T) {
	l := letter{at: time.UnixMilli(1_800_000_000_000).UTC(), again: true, messages: bustest.Messages(3, 2)}
	b := l.encode()
	var got letter
	if err := got.decode(b); err != nil || !got.at.Equal(l.at) || !got.again || len(got.messages) != 2 || string(got.messages[1].Payload) != "message 4" || got.total != 2 || got.size != 18 {
		t.Fatalf("%+v, %v", got, err)
	}
	whole := map[int]bool{letterHead: true, letterHead + messageHead + len("message 3"): true}
	for n := range b {
		if err := got.decode(b[:n]); (err == nil) != whole[n] {
			t.Errorf("of %d bytes the first %d: %v", len(b), n, err)
		}
	}
}

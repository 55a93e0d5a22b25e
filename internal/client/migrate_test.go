package client_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// newAddress is where a client's network has it go on.
func newAddress(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{200, byte(i), 0, 1}), 4000)
}

// pathChanges is how many links of clients have moved, at all entries.
func pathChanges(w *lab.Network) (n uint64) {
	for _, g := range w.Gateways {
		n += g.Core().Counts[trace.LinkPathChanges]
	}
	return n
}

// A client's address changes in the middle of a transfer, three times, up and
// down: not a byte is lost, the session goes on, and the pause that the client
// sees is a few round trips: none or one in most transfers, and twice as long where
// the change finds a queue that is being emptied. (Control: where entries stay with
// the old address, sessions live on by other routes, that new links carry, after
// four times as long.)
func TestATransferOutlivesChangesOfAddress(t *testing.T) {
	for _, c := range []struct {
		level    wire.Level
		up, down int
		stall    time.Duration
	}{
		{wire.Fast, 12 << 20, 0, 200 * time.Millisecond},
		{wire.Fast, 0, 12 << 20, 250 * time.Millisecond},
		{wire.Standard, 300_000, 0, 400 * time.Millisecond},
		{wire.Standard, 0, 600_000, 400 * time.Millisecond},
	} {
		var stalls []time.Duration
		for i := range 5 {
			stalls = append(stalls, transferAndMove(t, c.level, c.up, c.down, time.Duration(700+41*i)*time.Millisecond))
		}
		slices.Sort(stalls)
		t.Logf("%v, %d up, %d down: longest pauses %v", c.level, c.up, c.down, stalls)
		if median, most := stalls[2], stalls[4]; median > c.stall || most > 2*c.stall {
			t.Errorf("pauses of %v, %v at most, %v in most transfers", stalls, 2*c.stall, c.stall)
		}
	}
}

// transferAndMove moves a client at a time after a transfer's beginning, and twice
// more, and returns the longest time in which it got nothing.
func transferAndMove(t *testing.T, level wire.Level, up, down int, at time.Duration) (stall time.Duration) {
	w, u := withUserIn(t, seededWorld(t, 1, lab.Plan{Streams: 6, Mixes: 8, Level: level, Hop: sim.Link{Latency: 5 * time.Millisecond, Rate: 4 << 20}}))
	w.Sim.RunFor(3 * time.Second)
	sent, want := bytes.Repeat([]byte{1}, up), bytes.Repeat([]byte("not a byte is lost. "), down/20)
	for _, g := range w.Gateways {
		g.Service.Answer = func(_ machine.Time, body []byte) []byte {
			if !bytes.Equal(body, sent) {
				t.Errorf("%v: %d bytes of %d arrived", level, len(body), len(sent))
			}
			return want
		}
	}
	exit, begun, done := u.Core().ExitOf("a"), w.Sim.Now(), false
	u.Ask("a", sent, func(_ machine.Time, answer []byte, err error) {
		if done = true; err != nil || !bytes.Equal(answer, want) {
			t.Errorf("%v: %d bytes of %d came back, %v", level, len(answer), len(want), err)
		}
	})
	seen, last := uint64(0), begun
	w.Sim.Every(begun, time.Millisecond, func(now machine.Time) bool {
		if n := u.Core().Counts[trace.SessionPacketIn]; n != seen {
			stall, seen, last = max(stall, now.Sub(last)), n, now
		}
		return !done
	})
	for i := range 3 {
		w.Sim.After(at+time.Duration(i)*800*time.Millisecond, func(machine.Time) {
			if done {
				t.Errorf("%v: the transfer ended before move %d", level, i)
			}
			w.Sim.Rebind(u.Node, newAddress(i))
		})
	}
	if !w.Sim.RunWhile(begun.Add(time.Minute), func() bool { return !done }) {
		t.Fatalf("%v: no answer; last error: %v", level, u.Core().LastError())
	}
	if u.Core().ExitOf("a") != exit || pathChanges(w) < 3 {
		t.Errorf("%v: %d moves of links, the same exit: %v", level, pathChanges(w), u.Core().ExitOf("a") == exit)
	}
	return stall
}

// askMedian is how long the middle one of seven answers takes: mixes draw each way
// anew.
func askMedian(t *testing.T, w *lab.Network, u *lab.User, isolation string) time.Duration {
	var took [7]time.Duration
	for i := range took {
		took[i] = ask(t, w, u, isolation, 100, 20*time.Second)
	}
	slices.Sort(took[:])
	return took[len(took)/2]
}

// A client's address changes while nothing is under way: its next request goes
// out from the new one, and the answer finds it there a round trip later than
// usual; within a keep-alive every link has moved.
func TestTheAddressChangesWhileIdle(t *testing.T) {
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		w, u := withUserIn(t, seededWorld(t, 1, lab.Plan{Streams: 6, Mixes: 8, Level: level}))
		w.Sim.RunFor(30 * time.Second)
		exit, usual := u.Core().ExitOf("a"), askMedian(t, w, u, "a")
		w.Sim.RunFor(30 * time.Second)
		w.Sim.Rebind(u.Node, newAddress(0))
		took := ask(t, w, u, "a", 100, 20*time.Second)
		t.Logf("%v: %v, usually %v", level, took, usual)
		if took > usual+250*time.Millisecond || u.Core().ExitOf("a") != exit {
			t.Errorf("%v: the first answer at the new address took %v, usually %v; the same exit: %v", level, took, usual, u.Core().ExitOf("a") == exit)
		}
		w.Sim.RunFor(30 * time.Second)
		w.Sim.Rebind(u.Node, newAddress(1))
		before := pathChanges(w)
		w.Sim.RunFor(11 * time.Second)
		if moved := pathChanges(w) - before; int(moved) < u.Core().Entries() {
			t.Errorf("%v: %d links of %d have moved by themselves", level, moved, u.Core().Entries())
		}
		if took := askMedian(t, w, u, "a"); took > usual+50*time.Millisecond {
			t.Errorf("%v: an answer after the links have moved took %v, usually %v", level, took, usual)
		}
	}
}

package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// Relations against an active adversary: what he replays or changes on a wire
// has no effect beyond that of silence.

// traffic is the run in which an adversary acts: links and routes are set up,
// and requests go on over them until 2.5 s. act is called before it begins.
func traffic(t *testing.T, level wire.Level, act func(w *world)) *world {
	w := newWorld(t, 1, Plan{Level: level})
	act(w)
	w.AddUsers(1)
	w.Poisson("requests", 20, machine.Time(2500*time.Millisecond), func(_ machine.Time, i int) {
		w.Users[0].Ask("a", make([]byte, i*40), func(machine.Time, []byte, error) {})
	})
	w.Sim.RunUntil(machine.Time(3 * time.Second))
	return w
}

// sighting is a datagram that an adversary took.
type sighting struct {
	from, to netip.AddrPort
	b        []byte
}

// handshakeMax is how many of the first datagrams between two nodes may belong
// to a handshake: two parts of INIT, COOKIE, two parts again, two of RESP, and
// the same the other way where both dial.
const handshakeMax = 14

// Any captured datagram, sent again: no output beyond what would have come
// without, on any link. Only a first message from an unproven address is
// answered, to that address, with no more than came (docs/protocol.md, 4.3).
func TestReplayHasNoOutput(t *testing.T) {
	type direction struct{ from, to netip.AddrPort }
	for _, level := range levels[:2] {
		silent := traffic(t, level, func(*world) {})
		for name, delay := range map[string]time.Duration{"at once": 0, "later": 300 * time.Millisecond, "much later": 2 * time.Second} {
			t.Run(level.String()+" "+name, func(t *testing.T) {
				replayed, may := 0, map[direction]int{}
				w := traffic(t, level, func(w *world) {
					sent := map[direction]int{}
					w.Sim.Intercept(func(d sim.Datagram) bool {
						s := sighting{d.From, d.To, append([]byte(nil), d.B...)}
						sent[direction{d.From, d.To}]++
						if sent[direction{d.From, d.To}]+sent[direction{d.To, d.From}] <= handshakeMax {
							may[direction{d.To, d.From}]++
						}
						// The original arrives first: a copy that overtakes it is
						// a delivery, not a replay.
						w.Sim.At(d.At.Add(5*time.Millisecond+delay), func(machine.Time) {
							replayed++
							w.Sim.Inject(s.from, s.to, s.b)
						})
						return true
					})
				})
				extra := difference(w.all, silent.all)
				for _, s := range extra {
					k := direction{s.From, s.To}
					if may[k]--; may[k] < 0 {
						t.Fatalf("output beyond that of silence: %v", s)
					}
				}
				if missing := difference(silent.all, w.all); len(missing) > 0 {
					t.Errorf("%d datagrams did not come, or came at another time: %v", len(missing), missing[0])
				}
				if replayed < 500 {
					t.Errorf("%d datagrams replayed", replayed)
				}
				t.Logf("%d replayed, %d first messages answered", replayed, len(extra))
			})
		}
	}
}

// difference returns what a saw and b did not, in order.
func difference(a, b *sim.View) (only []sim.Sight) {
	seen := map[sim.Sight]int{}
	for i := range b.Len() {
		seen[b.At(i)]++
	}
	for i := range a.Len() {
		if seen[a.At(i)]--; seen[a.At(i)] < 0 {
			only = append(only, a.At(i))
		}
	}
	return only
}

// A datagram with one bit flipped, on any link: the next hop drops it, so that
// everything goes on exactly as if the wire had lost it.
func TestFlippedBitIsALoss(t *testing.T) {
	// Bits of the receiver index, of the counter, of the body's begin, middle
	// and end, and of the tag.
	bits := []int{0, 31, 32, 95, 96, 103, 700 * 8, 1263*8 + 7, 1264 * 8, 1280*8 - 1}
	for level, points := range map[wire.Level]int{wire.Fast: 10, wire.Standard: 5} {
		t.Run(level.String(), func(t *testing.T) {
			whole := traffic(t, level, func(*world) {})
			links := map[[2]netip.AddrPort]bool{}
			step := whole.all.Len() / points
			for n := 7; n < whole.all.Len(); n += step {
				// act does something to the n-th datagram, as everything before
				// it is equal in all runs.
				act := func(f func(b []byte) bool) *sim.View {
					i := 0
					return traffic(t, level, func(w *world) {
						w.Sim.Intercept(func(d sim.Datagram) bool {
							i++
							return i-1 != n || f(d.B)
						})
					}).all
				}
				lost := act(func([]byte) bool { return false })
				at := whole.all.At(n)
				links[[2]netip.AddrPort{at.From, at.To}] = true
				for k := range 2 {
					bit := bits[(n/step*2+k)%len(bits)]
					flipped := act(func(b []byte) bool { b[bit/8] ^= 1 << (bit % 8); return true })
					if d := lost.Diff(flipped); d != "" {
						t.Errorf("bit %d of datagram %d (%v) had an effect: %s", bit, n, at, d)
					}
				}
			}
			if len(links) < points/2 {
				t.Errorf("%d links tried", len(links))
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		flip := func(n int) *sim.View {
			i := 0
			return traffic(t, wire.Fast, func(w *world) {
				w.Sim.Intercept(func(d sim.Datagram) bool { i++; return i-1 != n })
			}).all
		}
		if a := traffic(t, wire.Fast, func(*world) {}).all; a.Equal(flip(a.Len() / 2)) {
			t.Error("a loss was not seen, so the comparison shows nothing")
		}
	})
}

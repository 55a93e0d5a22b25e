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

// Any captured datagram, sent again: no output beyond what would have come
// without, on any link.
func TestReplayHasNoOutput(t *testing.T) {
	for _, level := range levels[:2] {
		silent := traffic(t, level, func(*world) {})
		for name, delay := range map[string]time.Duration{"at once": 0, "later": 300 * time.Millisecond, "much later": 2 * time.Second} {
			t.Run(level.String()+" "+name, func(t *testing.T) {
				replayed := 0
				w := traffic(t, level, func(w *world) {
					w.Sim.Intercept(func(d sim.Datagram) bool {
						s := sighting{d.From, d.To, append([]byte(nil), d.B...)}
						// The original arrives first: a race that the copy wins is
						// a delivery, not a replay.
						w.Sim.At(d.At.Add(5*time.Millisecond+delay), func(machine.Time) {
							replayed++
							w.Sim.Inject(s.from, s.to, s.b)
						})
						return true
					})
				})
				if d := silent.all.Diff(w.all); d != "" {
					t.Errorf("of %d replays one had output: %s", replayed, d)
				}
				t.Logf("%d datagrams replayed", replayed)
			})
		}
	}
}

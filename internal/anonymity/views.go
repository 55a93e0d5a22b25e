// Package anonymity attacks whole networks of the real cores in the simulator and
// reports how well flows are told: by who sees every wire, by entry and exit
// together, and by one mix of each path; and how much mixes leave unsaid, as
// entropy. docs/anonymity.md says what was measured.
package anonymity

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Size is how much is simulated of each level and seed.
type Size struct {
	Flows  int           `json:"flows"`
	Length time.Duration `json:"length_ns"`
}

// The network that is attacked.
const (
	streamNodes, mixNodes = 10, 15
	routesPerSession      = 2
	linkLatency           = 10 * time.Millisecond
	linkJitter            = 2 * time.Millisecond
	// accessLoss is the chance of a datagram to be lost between a client and its
	// entry, in millionths, for every other client (see lossy); all else is kept.
	accessLoss = 5000
	// settled is when routes and sessions stand: the times of set-ups are no part
	// of what is attacked.
	settled = 6 * time.Second
	// entropyFor is how long entropies are measured, after entropySettles.
	entropyFor, entropySettles = 3 * time.Second, 2 * time.Second
)

// views is what is to be seen of a run.
type views struct {
	level      wire.Level
	begin, end machine.Time
	kinds      []Kind
	out, in    [][]machine.Time // datagrams of each client's link
	lost       [][]machine.Time // of those out, the ones that did not arrive
	up, down   [][]attack.Burst // what each flow's target sees
	routes     [][]*route       // of each client, as their hops see them
	use        float64          // real cells among those that clients sent
	atMix      []float64        // bits, see mixing
	onPath     []float64
}

// path is what everybody knows of how cells come from a client to an exit.
func (v *views) path() attack.Path { return v.after(v.level.Mixes()) }

// after is the path from a client on, so many mixes far.
func (v *views) after(mixes int) attack.Path {
	p := pathOf(v.level, mixes)
	p.Links += obfs.PolicyOf(v.level).Reserve
	return p
}

// pathOf is the path's end behind which there are still mixes.
func pathOf(l wire.Level, mixes int) attack.Path {
	p := attack.Path{Mixes: mixes, Mean: l.MixDelay(),
		Links: time.Duration(mixes+1) * (linkLatency + linkJitter/2)}
	if p.Mean == 0 {
		p.Mixes, p.Mean = 1, 2*time.Millisecond // FAST: what links vary by
	}
	return p
}

func regionsOf(l wire.Level) []string {
	if l == wire.High || l == wire.Extreme {
		return []string{"eu", "us", "ap"}
	}
	return nil
}

// observe runs a network under a seed with load times its traffic. weaken may switch
// protections off; nil: none.
func observe(l wire.Level, seed uint64, size Size, load float64, weaken func(*lab.Plan)) (*views, error) {
	v := &views{level: l, begin: machine.Time(settled), end: machine.Time(settled + size.Length)}
	run := lab.NewRun(&lab.Scenario{ID: "anonymity"}, seed)
	spies := &watch{begin: v.begin, end: v.end.Add(time.Second), reserve: obfs.PolicyOf(l).Reserve}
	plan := lab.Plan{Streams: streamNodes, Mixes: mixNodes, Level: l, Regions: regionsOf(l),
		Hop:    sim.Link{Latency: linkLatency, Jitter: linkJitter},
		Client: standing,
		Wrap:   spies.wrap}
	if weaken != nil {
		weaken(&plan)
	}
	w, err := run.NewNetwork(plan)
	if err != nil {
		return nil, err
	}
	w.AddUsers(size.Flows)
	spies.attach(w)
	t := &traffic{net: w, begin: v.begin, end: v.end, load: load}
	t.install(size.Flows)
	var out, in, arrived []*sim.View
	for i, u := range w.Users {
		access := sim.Link{Latency: linkLatency}
		if lossy(i) {
			access.Loss = accessLoss
		}
		for _, g := range w.Gateways {
			w.Sim.SetLink(u.Node, g.Node, access)
			w.Sim.SetLink(g.Node, u.Node, sim.Link{Latency: linkLatency})
		}
		v.kinds = append(v.kinds, Kinds[i%len(Kinds)])
		out = append(out, w.Sim.Tap(u.Node.Addr(), netip.AddrPort{}, sim.Departure))
		arrived = append(arrived, w.Sim.Tap(u.Node.Addr(), netip.AddrPort{}, sim.Arrival))
		in = append(in, w.Sim.Tap(netip.AddrPort{}, u.Node.Addr(), sim.Arrival))
	}
	t.open()
	w.Sim.RunUntil(v.begin)
	if t.answers < size.Flows {
		return nil, fmt.Errorf("anonymity: %d of %d sessions stand after %v, seed %d", t.answers, size.Flows, settled, seed)
	}
	for i, kind := range v.kinds {
		t.start(i, kind)
	}
	before := sent(w)
	mid := v.begin.Add((v.end.Sub(v.begin) - entropyFor) / 2)
	w.Sim.RunUntil(mid.Add(-entropySettles))
	spies.pools.begin(spies)
	w.Sim.RunUntil(mid)
	spies.pools.measure = true
	w.Sim.RunUntil(mid.Add(entropyFor))
	spies.pools.on = false
	w.Sim.RunUntil(v.end)
	after := sent(w)
	w.Sim.RunUntil(v.end.Add(time.Second))
	real, dummy := float64(after[trace.RealOut]-before[trace.RealOut]), float64(after[trace.DummyOut]-before[trace.DummyOut])
	if v.use = 1; real+dummy > 0 {
		v.use = real / (real + dummy)
	}
	v.up, v.down, v.routes = t.up, t.down, spies.routes
	v.atMix, v.onPath = spies.pools.atMix, spies.pools.onPath
	for i := range w.Users {
		v.out, v.in = append(v.out, v.times(out[i])), append(v.in, v.times(in[i]))
		v.lost = append(v.lost, v.missing(v.out[i], v.times(arrived[i])))
	}
	return v, nil
}

// standing gives clients the routes of one session, and none ahead of need.
func standing(c *client.Config) { c.RoutesPerSession, c.Ahead = routesPerSession, -1 }

// lossy are the clients whose access links lose datagrams: half of each kind.
func lossy(i int) bool { return i/(2*len(Kinds))%2 == 1 }

// sent are the counts of the clients.
func sent(w *lab.Network) (sum trace.Counts) {
	for _, u := range w.Users {
		for k, n := range u.Core().Stats() {
			sum[k] += n
		}
	}
	return sum
}

// times are those of a view, for a second more at either end.
func (v *views) times(seen *sim.View) (out []machine.Time) {
	for i := range seen.Len() {
		if at := seen.At(i).At; at >= v.begin.Add(-time.Second) && at < v.end.Add(time.Second) {
			out = append(out, at)
		}
	}
	seen.Reset()
	return out
}

// missing are the departures that no arrival follows by the link's latency.
func (v *views) missing(out, arrived []machine.Time) (lost []machine.Time) {
	for _, at := range out {
		if _, found := slices.BinarySearch(arrived, at.Add(linkLatency)); !found && at >= v.begin && at < v.end {
			lost = append(lost, at)
		}
	}
	return lost
}

// period is that of the slots in which routes begin, or at FAST a packet's time.
func period(l wire.Level) time.Duration {
	if floor := obfs.PolicyOf(l).Floor; floor != 0 {
		return floor.Period()
	}
	return time.Millisecond
}

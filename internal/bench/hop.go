package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/relay"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// rig is one relay between two neighbours that are links and nothing else, all
// in memory: what is timed is the relay's own work.
type rig struct {
	relay      *relay.Relay
	prev, next *link.Endpoint
	pool       wire.Pool
	counts     trace.Counts
	link       link.ID // prev to relay
	keys       map[wire.NodeID]*seal.KEMPrivate
	addrs      map[wire.NodeID]netip.AddrPort
	ids        [3]wire.NodeID // prev, relay, next
	onions     [3]*seal.KEMPrivate
	rng        prng.Source
	now        machine.Time
	buf        [wire.DatagramSize]byte
}

func newRig() (*rig, error) {
	r := &rig{keys: map[wire.NodeID]*seal.KEMPrivate{}, addrs: map[wire.NodeID]netip.AddrPort{}, rng: prng.FromUint64(1)}
	for i := range r.ids {
		r.ids[i] = wire.NodeID{byte(i + 1)}
		label := fmt.Sprint("node ", i)
		static, err := benchKEM(r.rng, label)
		if err != nil {
			return nil, err
		}
		if r.onions[i], err = benchKEM(r.rng, label+" onion"); err != nil {
			return nil, err
		}
		r.keys[r.ids[i]] = static
		r.addrs[r.ids[i]] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)}), 1)
	}
	peer := func(id wire.NodeID) *seal.KEMPublic {
		if k := r.keys[id]; k != nil {
			return k.Public()
		}
		return nil
	}
	r.prev = link.New(link.Config{Self: r.ids[0], Static: r.keys[r.ids[0]], Peer: peer, QueueMax: 1 << 14}, r.rng.Child("prev"), &r.pool, &r.counts)
	r.next = link.New(link.Config{Self: r.ids[2], Static: r.keys[r.ids[2]], Peer: peer}, r.rng.Child("next"), &r.pool, &r.counts)
	r.relay = relay.New(hop.Config{
		Self: r.ids[1], Static: r.keys[r.ids[1]], Onion: r.onions[1],
		Neighbours: func(id wire.NodeID) (*seal.KEMPublic, netip.AddrPort, bool) {
			k := r.keys[id]
			if k == nil {
				return nil, netip.AddrPort{}, false
			}
			return k.Public(), r.addrs[id], true
		},
	}, r.rng.Child("relay"))
	r.link = r.prev.Dial(0, r.ids[1], r.keys[r.ids[1]].Public(), r.addrs[r.ids[1]])
	r.exchange()
	if _, _, up := r.prev.Peer(r.link); !up {
		return nil, errors.New("the link to the relay does not come up")
	}
	return r, nil
}

func benchKEM(rng prng.Source, label string) (*seal.KEMPrivate, error) {
	var seed [seal.KEMSeedSize]byte
	rng.Stream(label).Read(seed[:])
	return seal.NewKEMPrivate(&seed)
}

// exchange carries datagrams and runs jobs until nobody has any.
func (r *rig) exchange() {
	for moved := true; moved; {
		moved = false
		r.now += machine.Time(time.Microsecond)
		for _, e := range []struct {
			poll func() (netip.AddrPort, int, bool)
			from netip.AddrPort
		}{
			{func() (netip.AddrPort, int, bool) { return r.prev.PollTransmit(r.now, r.buf[:]) }, r.addrs[r.ids[0]]},
			{func() (netip.AddrPort, int, bool) { return r.relay.PollTransmit(r.now, r.buf[:]) }, r.addrs[r.ids[1]]},
			{func() (netip.AddrPort, int, bool) { return r.next.PollTransmit(r.now, r.buf[:]) }, r.addrs[r.ids[2]]},
		} {
			for {
				to, n, ok := e.poll()
				if !ok {
					break
				}
				moved = true
				r.deliver(e.from, to, r.buf[:n])
			}
		}
		for {
			j, ok := r.relay.PollJob()
			if !ok {
				break
			}
			j.Run()
			r.relay.HandleJob(r.now, j)
			moved = true
		}
	}
}

func (r *rig) deliver(from, to netip.AddrPort, b []byte) {
	switch to {
	case r.addrs[r.ids[0]]:
		r.prev.HandleDatagram(r.now, from, b)
	case r.addrs[r.ids[1]]:
		r.relay.HandleDatagram(r.now, from, b)
	case r.addrs[r.ids[2]]:
		r.next.HandleDatagram(r.now, from, b)
	}
}

// route builds a route whose first hop is the relay, and returns its train.
func (r *rig) route(i int) (*mix.Route, *mix.Train, error) {
	hops := []mix.HopSpec{
		{ID: r.ids[1], Onion: r.onions[1].Public()},
		{ID: r.ids[2], Onion: r.onions[2].Public()},
		{ID: r.ids[0], Onion: r.onions[0].Public()},
	}
	return mix.Build(hops, wire.Fast, time.Hour, nil, r.rng.Child(fmt.Sprint("route ", i)))
}

// established builds a route and sets it up, which also brings up the link to
// the next hop.
func (r *rig) established(i int) (*mix.Route, error) {
	route, train, err := r.route(i)
	if err != nil {
		return nil, err
	}
	for _, d := range r.capture(wire.TrainFrames, train.Frame) {
		r.relay.HandleDatagram(r.now, r.addrs[r.ids[0]], d)
	}
	r.exchange()
	return route, nil
}

// capture pushes frames to the relay's link and returns the datagrams.
func (r *rig) capture(n int, fill func(i int, f *wire.Frame)) [][]byte {
	out := make([][]byte, 0, n)
	for i := range n {
		f := r.pool.Get()
		fill(i, f)
		r.prev.Push(r.link, f)
		for {
			to, size, ok := r.prev.PollTransmit(r.now, r.buf[:])
			if !ok {
				break
			}
			if to == r.addrs[r.ids[1]] {
				out = append(out, append([]byte(nil), r.buf[:size]...))
			}
		}
	}
	return out
}

// feed gives datagrams to the relay in batches, as its host would, and returns
// how many it sent on.
func (r *rig) feed(datagrams [][]byte) (sent int) {
	const batch = 64
	for len(datagrams) > 0 {
		n := min(batch, len(datagrams))
		for _, d := range datagrams[:n] {
			r.relay.HandleDatagram(r.now, r.addrs[r.ids[0]], d)
		}
		datagrams = datagrams[n:]
		for {
			j, ok := r.relay.PollJob()
			if !ok {
				break
			}
			j.Run()
			r.relay.HandleJob(r.now, j)
		}
		for {
			if _, _, ok := r.relay.PollTransmit(r.now, r.buf[:]); !ok {
				break
			}
			sent++
		}
		r.now += machine.Time(10 * time.Microsecond)
	}
	return sent
}

const (
	rounds   = 15
	hopBatch = 4096
)

// runHop measures the CPU time of a relay's work on forward cells against that
// of three AEAD passes, and both with the datagram's way through the socket
// added.
func runHop(context.Context, Options) ([]Figure, error) {
	r, err := newRig()
	if err != nil {
		return nil, err
	}
	route, err := r.established(0)
	if err != nil {
		return nil, err
	}
	var packet [wire.SessionPacketSize]byte
	floor := newAEADFloor()
	var compute, passes []time.Duration
	for range rounds {
		cells := r.capture(hopBatch, func(_ int, f *wire.Frame) { route.Seal(f, packet[:], 0) })
		begun := cpuTime()
		sent := r.feed(cells)
		compute = append(compute, (cpuTime()-begun)/hopBatch)
		if sent < hopBatch {
			return nil, fmt.Errorf("the relay sent %d of %d cells", sent, hopBatch)
		}
		passes = append(passes, floor.run(hopBatch))
	}
	io, err := socketCost()
	if err != nil {
		return nil, err
	}
	c, p := median(compute), median(passes)
	whole := Figure{Name: "one hop, forwarding at load, with socket", Value: micros(c + io), Unit: "µs/datagram", Bound: 2,
		Note: "floor: 3 AEAD passes and batched UDP; budget is of the ratio"}
	return []Figure{
		whole.against(micros(p + io)),
		Figure{Name: "one hop, relay's own work", Value: micros(c), Unit: "µs/datagram", Note: "floor: 3 AEAD passes"}.against(micros(p)),
		{Name: "batched UDP, send and receive", Value: micros(io), Unit: "µs/datagram", Note: "CPU time, loopback"},
		{Name: "forwarding, one core", Value: 1e6 / micros(c+io), Unit: "packets/s", Bound: 300_000},
	}, nil
}

// aeadFloor is the three AEAD passes that every hop needs for one datagram.
type aeadFloor struct {
	open, layer, seal *seal.AEAD
	in, cell, out     []byte
	datagram, sealed  []byte
}

func newAEADFloor() *aeadFloor {
	f := &aeadFloor{}
	f.open = seal.NewAEAD(seal.Preferred(), &seal.Key{1})
	f.layer = seal.NewAEAD(seal.Preferred(), &seal.Key{2})
	f.seal = seal.NewAEAD(seal.Preferred(), &seal.Key{3})
	f.datagram = f.open.Seal(nil, make([]byte, wire.LinkPayloadSize), nil, 1)
	f.sealed = f.layer.Seal(nil, make([]byte, wire.MaxLayerSize-wire.TagSize), nil, 1)
	f.in = make([]byte, 0, wire.DatagramSize)
	f.cell = make([]byte, 0, wire.DatagramSize)
	f.out = make([]byte, 0, wire.DatagramSize)
	return f
}

// run returns the CPU time that the passes of one datagram take.
func (f *aeadFloor) run(n int) time.Duration {
	begun := cpuTime()
	for i := range n {
		f.open.Open(f.in, f.datagram, nil, 1)
		f.layer.Open(f.cell, f.sealed, nil, 1)
		f.seal.Seal(f.out, f.datagram[:wire.LinkPayloadSize], nil, uint64(i))
	}
	return (cpuTime() - begun) / time.Duration(n)
}

// socketCost is the CPU time of sending and receiving one datagram in batches
// on loopback.
func socketCost() (time.Duration, error) {
	a, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		return 0, err
	}
	defer a.Close()
	b, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		return 0, err
	}
	defer b.Close()
	const batches, batch = 2000, 32
	received := 0
	before := cpuTime()
	for range batches {
		for range batch {
			clear(a.Next()[:1])
			a.Commit(wire.DatagramSize, b.Addr())
		}
		if err := a.Flush(); err != nil {
			return 0, err
		}
		for want := batch; want > 0; {
			n, err := b.Read(100 * time.Millisecond)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				break
			}
			received += n
			want -= n
		}
	}
	return (cpuTime() - before) / time.Duration(max(received, 1)), nil
}

func median(d []time.Duration) time.Duration {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)/2]
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

package mix

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// testNode is one hop of a test network.
type testNode struct {
	*Table
	counts     trace.Counts
	pool       wire.Pool
	private    *seal.KEMPrivate
	deliveries []Delivery // with the packets copied
	jobs       int
}

// testNet is a row of hops behind one client. Link toward(i) joins hop i with
// what is before it, and both ends call it the same.
type testNet struct {
	t     testing.TB
	now   machine.Time
	nodes []*testNode
	// home is what arrived at the client: frames of link toward(0).
	home [][]byte
	// tap sees each frame between hops and may change it; false loses it.
	// at is the link: at == i joins i-1 and i.
	tap func(at int, out bool, frame []byte) bool
	// seen are copies of all frames, by link and direction, if record is set.
	record bool
	seen   []capture
}

type capture struct {
	at    int
	out   bool
	when  machine.Time
	frame []byte
}

func toward(i int) link.ID { return link.ID(100 + i) }

func nodeID(i int) wire.NodeID { return wire.NodeID{1, byte(i), 7} }

func testKey(t testing.TB, n uint64) *seal.KEMPrivate {
	t.Helper()
	var seed [seal.KEMSeedSize]byte
	prng.FromUint64(n).Stream("key").Read(seed[:])
	k, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newNet(t testing.TB, hops int, limits Limits) *testNet {
	n := &testNet{t: t}
	for i := range hops {
		node := &testNode{private: testKey(t, uint64(i))}
		node.Table = NewTable(n.config(i, node.private, limits), prng.FromUint64(uint64(1000+i)), &node.pool, &node.counts)
		n.nodes = append(n.nodes, node)
	}
	return n
}

func (n *testNet) config(i int, key *seal.KEMPrivate, limits Limits) Config {
	return Config{
		Onion: key, Limits: limits, EndOfRoute: true,
		Next: func(_ machine.Time, id wire.NodeID) (link.ID, bool) { return toward(i + 1), id == nodeID(i+1) },
	}
}

func (n *testNet) specs(delay time.Duration) []HopSpec {
	var s []HopSpec
	for i, node := range n.nodes {
		h := HopSpec{ID: nodeID(i), Onion: node.private.Public()}
		if i > 0 && i < len(n.nodes)-1 {
			h.Delay = delay
		}
		s = append(s, h)
	}
	return s
}

// open builds a route over all hops and runs its set-up.
func (n *testNet) open(level wire.Level, first []byte, seed uint64) *Route {
	n.t.Helper()
	r, train, err := Build(n.specs(level.MixDelay()), level, 10*time.Minute, first, prng.FromUint64(seed))
	if err != nil {
		n.t.Fatal(err)
	}
	before := len(n.end().deliveries)
	n.sendTrain(train)
	n.run()
	if got := len(n.end().deliveries); got != before+1 || n.end().deliveries[before].Kind != Opened {
		n.t.Fatalf("set-up made %d deliveries", got-before)
	}
	return r
}

func (n *testNet) end() *testNode { return n.nodes[len(n.nodes)-1] }

func (n *testNet) lastEnd() End {
	d := n.end().deliveries
	for i := len(d) - 1; i >= 0; i-- {
		if d[i].Kind == Opened {
			return d[i].Route
		}
	}
	n.t.Fatal("no route reached its end")
	return End{}
}

func (n *testNet) sendTrain(train *Train) {
	for i := range wire.TrainFrames {
		var f wire.Frame
		train.Frame(i, &f)
		n.carry(0, true, f.B[:])
	}
}

// carry moves a frame over link at and lets the receiver handle it.
func (n *testNet) carry(at int, out bool, frame []byte) {
	if n.tap != nil && !n.tap(at, out, frame) {
		return
	}
	if n.record {
		n.seen = append(n.seen, capture{at, out, n.now, append([]byte(nil), frame...)})
	}
	switch {
	case out:
		n.nodes[at].HandleFrame(n.now, toward(at), frame)
	case at == 0:
		n.home = append(n.home, append([]byte(nil), frame...))
	default:
		n.nodes[at-1].HandleFrame(n.now, toward(at), frame)
	}
	// The frame was borrowed: who kept it will find this.
	for i := range frame {
		frame[i] = 0xdb
	}
}

// step lets every node do what is due now and reports whether any did.
func (n *testNet) step() (busy bool) {
	for i, node := range n.nodes {
		for {
			j, ok := node.PollJob()
			if !ok {
				break
			}
			busy = true
			node.jobs++
			j.Run()
			node.HandleJob(n.now, j)
		}
		for {
			to, f, ok := node.PollSend(n.now)
			if !ok {
				break
			}
			busy = true
			if to == toward(i) {
				n.carry(i, false, f.B[:])
			} else {
				n.carry(i+1, true, f.B[:])
			}
			node.pool.Put(f)
		}
		for {
			d, ok := node.PollDeliver()
			if !ok {
				break
			}
			d.Packet = append([]byte(nil), d.Packet...)
			node.deliveries = append(node.deliveries, d)
		}
	}
	return busy
}

// run goes on until no frame is on its way.
func (n *testNet) run() {
	for {
		for n.step() {
		}
		next := machine.Never
		for _, node := range n.nodes {
			next = min(next, node.delayed.next())
		}
		if next == machine.Never {
			return
		}
		n.now = next
	}
}

// advance moves time to a point, calling timers as they are due.
func (n *testNet) advance(d time.Duration) {
	until := n.now.Add(d)
	for {
		for n.step() {
		}
		next := until
		for _, node := range n.nodes {
			next = min(next, node.NextTimer())
		}
		n.now = max(n.now, next)
		for _, node := range n.nodes {
			node.HandleTimer(n.now)
		}
		if next == until {
			for n.step() {
			}
			return
		}
	}
}

func (n *testNet) send(r *Route, packet []byte) {
	var f wire.Frame
	if !r.Seal(&f, packet, 0) {
		n.t.Fatal("the route does not seal")
	}
	n.carry(0, true, f.B[:])
}

// wantCount fails unless a counter of a node has a value.
func (n *testNet) wantCount(node int, c trace.Counter, want uint64) {
	n.t.Helper()
	if got := n.nodes[node].counts[c]; got != want {
		n.t.Errorf("hop %d: %v is %d, want %d", node, c, got, want)
	}
}

func (n *testNet) drops(node int) (sum uint64) {
	for c := trace.Counter(0); c < trace.NumCounters; c++ {
		if s := c.String(); len(s) > 5 && s[:5] == "drop_" {
			sum += n.nodes[node].counts[c]
		}
	}
	return sum
}

// settled fails unless every frame is back in its pool.
func (n *testNet) settled() {
	n.t.Helper()
	for i, node := range n.nodes {
		node.PollDeliver()
		if node.pool.Out != 0 || node.Queued() != 0 {
			n.t.Errorf("hop %d: %d frames out of the pool, %d queued", i, node.pool.Out, node.Queued())
		}
	}
}

func packetOf(seed uint64) []byte {
	p := make([]byte, wire.SessionPacketSize)
	prng.FromUint64(seed).Stream("packet").Read(p)
	return p
}

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// idleStep is how far time goes in a step, in which a datagram comes from
	// one end of a link to the other.
	idleStep = 10 * time.Millisecond
	// idleBegun is how many sessions begin in a step, below the 10,000 cookies a
	// second that a node gives out.
	idleBegun = 80
	// idleRound is the steps from one heartbeat to the next, 20 s.
	idleRound = int(20 * time.Second / idleStep)
)

var idleGate, idleMid = wire.NodeID{1}, wire.NodeID{2}

// idleWorld is the surroundings of the Stream node, which is in a process of its
// own: clients, and the Mix node between the node's two places on each route. In
// a step the node works on what was sent to it in the step before, and the clients
// on what came from it then, each on a processor of its own where there are two.
type idleWorld struct {
	gate   *idleProcess
	shards []*idleShard
	begun  uint32
	step   int

	mid    *link.Endpoint
	pool   wire.Pool
	counts trace.Counts
	toGate idleBag  // of the Mix node
	cells  [][]byte // frames that came to it in this step
	peer   link.ID  // its link to the node

	came, coming idleBag
	sent         []idleBag
	arrived      uint64 // datagrams that the node sent
}

// idleShard is every so manieth client.
type idleShard struct {
	secrets *idleSecrets
	clients []idleClient // of all shards, by number
	setups  map[uint32]*idleSetup
	due     [idleRound][]uint32 // by the step of the round in which a client's heartbeat is
	now     int                 // that of this step
	toGate  idleBag

	scalars  *prng.Stream
	shape    seal.AEAD
	once     seal.Once
	frame    wire.Frame
	ack      wire.AckFrame
	answered uint64 // what clients said, and the node acknowledged
}

// idleBag holds datagrams, each after the number of its client, or 0 for the Mix
// node.
type idleBag []byte

const idleRecord = 4 + wire.DatagramSize

// add returns the memory of one more datagram, which is valid until the next one.
func (g *idleBag) add(n uint32) []byte {
	*g = binary.BigEndian.AppendUint32(*g, n)
	from := len(*g)
	if cap(*g) < from+wire.DatagramSize {
		*g = append(*g, make([]byte, wire.DatagramSize)...)
	}
	*g = (*g)[:from+wire.DatagramSize]
	return (*g)[from:]
}

func (g idleBag) len() int { return len(g) / idleRecord }

func (g idleBag) at(i int) (n uint32, b []byte) {
	record := g[i*idleRecord : (i+1)*idleRecord]
	return binary.BigEndian.Uint32(record), record[4:]
}

// idleAddr is the address of a client, and that of the Mix node.
func idleAddr(n uint32) netip.AddrPort {
	if n == 0 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), 1)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1)
}

var idleGateAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)

func idleNumber(addr netip.AddrPort) uint32 {
	if ip := addr.Addr().As4(); ip[0] == 10 {
		return uint32(ip[1])<<16 | uint32(ip[2])<<8 | uint32(ip[3])
	}
	return 0
}

// idleKeys are the keys of a node, the same in both processes.
func idleKeys(id wire.NodeID) (static, onion *seal.KEMPrivate, err error) {
	rng, label := prng.FromUint64(1), fmt.Sprint("node ", id[0])
	if static, err = benchKEM(rng, label); err != nil {
		return nil, nil, err
	}
	onion, err = benchKEM(rng, label+" onion")
	return static, onion, err
}

// newIdleWorld starts the Stream node, whose process ends with this one or by
// stop, for up to n clients.
func newIdleWorld(n int) (*idleWorld, error) {
	static, onion, err := idleKeys(idleGate)
	if err != nil {
		return nil, err
	}
	own, _, err := idleKeys(idleMid)
	if err != nil {
		return nil, err
	}
	rng := prng.FromUint64(2)
	ephemeral, err := benchKEM(rng, "ephemeral")
	if err != nil {
		return nil, err
	}
	secrets, err := newIdleSecrets(idleGate, static.Public(), onion.Public(), ephemeral)
	if err != nil {
		return nil, err
	}
	w := &idleWorld{}
	w.mid = link.New(link.Config{Self: idleMid, Static: own, Peer: func(id wire.NodeID) *seal.KEMPublic {
		if id == idleGate {
			return static.Public()
		}
		return nil
	}}, rng.Child("mid"), &w.pool, &w.counts)
	clients := make([]idleClient, n+1)
	for i := range runtime.GOMAXPROCS(0) {
		s := &idleShard{secrets: secrets, clients: clients, setups: map[uint32]*idleSetup{}, scalars: rng.Stream(fmt.Sprint("scalars ", i))}
		s.shape.Init(idleSuite, &secrets.shape)
		w.shards = append(w.shards, s)
	}
	w.sent = make([]idleBag, len(w.shards)+1)
	w.gate, err = startIdleProcess()
	return w, err
}

// run lets steps pass, and that many sessions begin in each.
func (w *idleWorld) run(steps, begin int) error {
	for range steps {
		if err := w.next(begin); err != nil {
			return err
		}
	}
	return nil
}

func (w *idleWorld) next(begin int) error {
	w.step++
	now := machine.Time(w.step) * machine.Time(idleStep)
	exchanged := make(chan error, 1)
	go func() { exchanged <- w.gate.exchange(now, w.sent, &w.coming) }()
	err := w.script(now, begin)
	err = errors.Join(<-exchanged, err)
	w.came, w.coming = w.coming, w.came
	w.arrived += uint64(w.came.len())
	for i, s := range w.shards {
		s.toGate, w.sent[i] = w.sent[i][:0], s.toGate
	}
	last := len(w.shards)
	w.toGate, w.sent[last] = w.sent[last][:0], w.toGate
	return err
}

// script is a step of the Mix node and of all clients.
func (w *idleWorld) script(now machine.Time, begin int) error {
	w.mid.HandleTimer(now)
	w.cells = w.cells[:0]
	for i := range w.came.len() {
		if n, b := w.came.at(i); n == 0 {
			if from, frame, ok := w.mid.HandleDatagram(now, idleGateAddr, b); ok {
				w.peer, w.cells = from, append(w.cells, frame)
			}
		}
	}
	first := w.begun + 1
	w.begun += uint32(begin)
	var all sync.WaitGroup
	errs := make([]error, len(w.shards))
	for i, s := range w.shards {
		all.Go(func() { errs[i] = s.run(w, i, first) })
	}
	all.Wait()
	for _, frame := range w.cells {
		w.forward(frame)
	}
	for _, ok := w.mid.PollEvent(); ok; _, ok = w.mid.PollEvent() {
	}
	for {
		b := w.toGate.add(0)
		if _, _, ok := w.mid.PollTransmit(now, b); !ok {
			w.toGate = w.toGate[:len(w.toGate)-idleRecord]
			break
		}
	}
	return errors.Join(errs...)
}

// run is a step of the clients of shard number own; those from first on begin.
func (s *idleShard) run(w *idleWorld, own int, first uint32) (err error) {
	mine := func(n uint32) bool { return int(n)%len(w.shards) == own }
	s.now = w.step % idleRound
	for _, n := range s.due[s.now] {
		s.beat(n)
	}
	for _, n := range s.due[(s.now+idleRound/2)%idleRound] {
		s.pad(n)
	}
	for i := range w.came.len() {
		if n, b := w.came.at(i); n != 0 && mine(n) && err == nil {
			err = s.receive(n, b)
		}
	}
	for _, frame := range w.cells {
		if n := wire.FrameRouteID(frame); wire.FrameType(frame[0]) == wire.FrameBack && mine(n) && err == nil {
			err = s.fromExit(n, frame)
		}
	}
	for n := first; n <= w.begun; n++ {
		if mine(n) {
			s.begin(n)
		}
	}
	return err
}

// settled notes that a client's session stands.
func (s *idleShard) settled(n uint32) { s.due[s.now] = append(s.due[s.now], n) }

// forward is the Mix node's part in a frame. What it would seal for the entry to
// pass on to the client is not sealed, for nobody opens it.
func (w *idleWorld) forward(frame []byte) {
	n := wire.FrameRouteID(frame)
	switch wire.FrameType(frame[0]) {
	case wire.FrameSetup:
		u := w.shards[int(n)%len(w.shards)].setups[n]
		if i, _ := wire.ShardIndex(frame); i != 0 || u == nil {
			return
		}
		for i := range wire.TrainData {
			f := w.pool.Get()
			putShard(f, n, i, u.onion)
			w.mid.Push(w.peer, f)
		}
	case wire.FrameForward:
		f := w.pool.Get()
		cell := wire.CellLayer(frame, 1)
		wire.PutCellHeader(f.B[:], wire.FrameForward, n, binary.BigEndian.Uint32(cell))
		used := copy(f.B[wire.CellOffset:], cell[wire.CounterSize:][:wire.LayerSize(idleExit)])
		clear(f.B[wire.CellOffset+used:])
		w.mid.Push(w.peer, f)
	case wire.FrameBack:
		f := w.pool.Get()
		copy(f.B[:], frame)
		clear(f.B[wire.CellOffset+wire.LayerSize(1):])
		w.mid.Push(w.peer, f)
	}
}

// answered is how much of what clients said was acknowledged.
func (w *idleWorld) answered() (n uint64) {
	for _, s := range w.shards {
		n += s.answered
	}
	return n
}

// standing is how many sessions stand.
func (w *idleWorld) standing() int {
	n := int(w.begun)
	for _, s := range w.shards {
		n -= len(s.setups)
	}
	return n
}

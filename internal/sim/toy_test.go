package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// toy is a machine for tests: what it sends is queued by its methods, what it
// receives is kept, and its behaviour on input is a function.
type toy struct {
	rng      *prng.Stream
	out      []toyDatagram
	jobs     []machine.Job
	got      []string
	gotAt    []machine.Time
	from     []netip.AddrPort
	kept     []byte // illegally kept slice
	timer    machine.Time
	onInput  func(now machine.Time, from netip.AddrPort, b []byte)
	onTimer  func(now machine.Time)
	onJob    func(now machine.Time, j machine.Job)
	timersAt []machine.Time
}

type toyDatagram struct {
	to netip.AddrPort
	b  []byte
}

func (m *toy) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	m.got = append(m.got, string(b))
	m.gotAt = append(m.gotAt, now)
	m.from = append(m.from, from)
	m.kept = b
	if m.onInput != nil {
		m.onInput(now, from, b)
	}
}

func (m *toy) HandleTimer(now machine.Time) {
	m.timersAt = append(m.timersAt, now)
	m.timer = machine.Never
	if m.onTimer != nil {
		m.onTimer(now)
	}
}

func (m *toy) NextTimer() machine.Time { return m.timer }

func (m *toy) PollTransmit(_ machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if len(m.out) == 0 {
		return netip.AddrPort{}, 0, false
	}
	d := m.out[0]
	m.out = m.out[1:]
	return d.to, copy(b, d.b), true
}

func (m *toy) PollJob() (machine.Job, bool) {
	if len(m.jobs) == 0 {
		return nil, false
	}
	j := m.jobs[0]
	m.jobs = m.jobs[1:]
	return j, true
}

func (m *toy) HandleJob(now machine.Time, j machine.Job) {
	if m.onJob != nil {
		m.onJob(now, j)
	}
}

func (m *toy) send(to netip.AddrPort, text string) {
	m.out = append(m.out, toyDatagram{to, []byte(text)})
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// add puts a silent toy on the network.
func add(n *Network, name string, at string, configure func(*NodeConfig)) (*Node, *toy) {
	m := &toy{timer: machine.Never}
	cfg := NodeConfig{Name: name, Addr: addr(at), New: func(_ machine.Time, rng prng.Source) machine.Machine {
		m.rng = rng.Stream("toy")
		return m
	}}
	if configure != nil {
		configure(&cfg)
	}
	return n.AddNode(cfg), m
}

// pairOf makes a network of two toys on one link.
func pairOf(seed uint64, l Link) (n *Network, a, b *Node, ma, mb *toy) {
	n = New(Config{Seed: seed, Link: l})
	a, ma = add(n, "a", "10.0.0.1:1", nil)
	b, mb = add(n, "b", "10.0.0.2:1", nil)
	return n, a, b, ma, mb
}

// stream sends count numbered datagrams from a to b, one each interval.
func stream(n *Network, from *Node, m *toy, to netip.AddrPort, count int, interval time.Duration) {
	for i := range count {
		n.At(n.Now().Add(time.Duration(i)*interval), func(machine.Time) {
			n.Do(from, func(machine.Time) { m.send(to, fmt.Sprint(i)) })
		})
	}
}

// flooder sends a datagram each interval to a drawn peer; an echo answers.
type flooder struct {
	peers    []netip.AddrPort
	interval time.Duration
	rng      *prng.Stream
	next     machine.Time
	due      bool
}

func (f *flooder) HandleDatagram(machine.Time, netip.AddrPort, []byte) {}
func (f *flooder) HandleTimer(now machine.Time) {
	f.due = true
	f.next = now.Add(f.rng.Exp(f.interval))
}
func (f *flooder) NextTimer() machine.Time { return f.next }
func (f *flooder) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if !f.due {
		return netip.AddrPort{}, 0, false
	}
	f.due = false
	binary.BigEndian.PutUint64(b, uint64(now))
	return f.peers[f.rng.IntN(len(f.peers))], packetMax, true
}
func (f *flooder) PollJob() (machine.Job, bool)        { return nil, false }
func (f *flooder) HandleJob(machine.Time, machine.Job) {}

// echo sends back what it gets; in flight it is one datagram at most.
type echo struct {
	to   netip.AddrPort
	n    int
	left int // answers left; negative: without end
	b    [packetMax]byte
}

func (e *echo) HandleDatagram(_ machine.Time, from netip.AddrPort, b []byte) {
	if e.left != 0 {
		e.left--
		e.to, e.n = from, copy(e.b[:], b)
	}
}
func (e *echo) HandleTimer(machine.Time)            {}
func (e *echo) NextTimer() machine.Time             { return machine.Never }
func (e *echo) PollJob() (machine.Job, bool)        { return nil, false }
func (e *echo) HandleJob(machine.Time, machine.Job) {}
func (e *echo) PollTransmit(_ machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if e.n == 0 {
		return netip.AddrPort{}, 0, false
	}
	size := copy(b, e.b[:e.n])
	e.n = 0
	return e.to, size, true
}

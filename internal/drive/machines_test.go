package drive_test

import (
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

// datagram is one that a test machine has to send.
type datagram struct {
	to netip.AddrPort
	b  [1280]byte
	n  int
}

// echo is a machine that sends every datagram back, or on to another address.
// It counts what the host does with it.
type echo struct {
	to       netip.AddrPort // where to forward; the sender if not valid
	queue    []datagram
	head     int
	in       int
	sinceIn  int // datagrams since the last HandleTimer or hook
	roundMax int
	seen     func(now machine.Time, b []byte)

	timer  machine.Time
	fired  []machine.Time
	repeat time.Duration

	work     []machine.Job
	finished []machine.Job
}

func newEcho() *echo { return &echo{timer: machine.Never} }

func (e *echo) push(to netip.AddrPort, b []byte) {
	if e.head > 0 && e.head == len(e.queue) {
		e.queue, e.head = e.queue[:0], 0
	}
	if len(e.queue) < cap(e.queue) {
		e.queue = e.queue[:len(e.queue)+1]
	} else {
		e.queue = append(e.queue, datagram{})
	}
	d := &e.queue[len(e.queue)-1]
	d.to, d.n = to, copy(d.b[:], b)
}

func (e *echo) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	e.in++
	e.sinceIn++
	e.roundMax = max(e.roundMax, e.sinceIn)
	if e.seen != nil {
		e.seen(now, b)
	}
	if e.to.IsValid() {
		from = e.to
	}
	e.push(from, b)
}

func (e *echo) HandleTimer(now machine.Time) {
	if now < e.timer {
		return
	}
	e.fired = append(e.fired, now)
	if e.timer = machine.Never; e.repeat > 0 {
		e.timer = now.Add(e.repeat)
	}
}

func (e *echo) NextTimer() machine.Time { return e.timer }

func (e *echo) PollTransmit(_ machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if e.head == len(e.queue) {
		return netip.AddrPort{}, 0, false
	}
	d := &e.queue[e.head]
	e.head++
	return d.to, copy(b, d.b[:d.n]), true
}

func (e *echo) PollJob() (machine.Job, bool) {
	if len(e.work) == 0 {
		return nil, false
	}
	j := e.work[0]
	e.work = e.work[1:]
	return j, true
}

func (e *echo) HandleJob(_ machine.Time, j machine.Job) { e.finished = append(e.finished, j) }

// jobFunc is a job that runs a function.
type jobFunc func()

func (f jobFunc) Run() { f() }

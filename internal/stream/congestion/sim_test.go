package congestion

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// A link in virtual time: senders → queue of one bottleneck → loss →
// propagation and per-packet jitter → receiver → acknowledgements → senders.

const packetSize = 1079

type linkSpec struct {
	rate      uint64        // bytes per second
	rtt       time.Duration // propagation, both ways together
	queueMax  int           // bytes
	lossPPM   uint64
	jitter    time.Duration // mean of the exponential delay of each packet
	ackJitter time.Duration // the same for acknowledgements
	hops      int           // each jitter is a sum of so many exponentials; 1
	ackEvery  int           // packets; 8
	ackDelay  time.Duration // 2 ms
}

type simEvent struct {
	at   machine.Time
	seq  uint64
	kind uint8
	flow *simFlow
	n    int
	f    func()
}

const (
	evCall uint8 = iota
	evDepart
	evArrive
	evAckTimer
	evAck
	evSend
	evLoss
	evSlot
)

type simLink struct {
	t      testing.TB
	spec   linkSpec
	now    machine.Time
	seq    uint64
	heap   []simEvent
	queue  []queued // bottleneck, in order of arrival
	queueB int
	loss   *prng.Stream
	jit    *prng.Stream
	flows  []*simFlow
	source prng.Source
	drops  int
}

type queued struct {
	flow *simFlow
	n    int
	at   machine.Time
}

type simPacket struct {
	Packet
	state uint8 // 0 flying, 1 acked, 2 lost
}

type simFlow struct {
	l         *simLink
	c         Controller
	packets   []simPacket
	head      int // oldest that may be flying
	largest   int // largest acknowledged
	inFlight  int
	pending   int // packets the application has; -1: bulk
	slotMean  time.Duration
	slots     *prng.Stream
	regular   bool
	nextSend  machine.Time
	sendSet   bool
	quietAt   machine.Time // last sending or acknowledgement
	timerSet  bool
	probes    int
	hasty     bool // calls a packet lost after 9/8 round trips, always
	srtt      time.Duration
	rttvar    time.Duration
	reorder   time.Duration // multiple of the threshold, eighths
	spurious  int
	lost      int
	blocked   int // slots that found window or pacer closed
	slotCount int
	stopped   bool

	acks      [][]int
	ackNow    []int
	ackTimer  bool
	delivered []int // bytes by millisecond of arrival
	rtts      []sampleAt
	waits     []sampleAt // queueing at the bottleneck
	windowMin int
}

type sampleAt struct {
	at machine.Time
	d  time.Duration
}

func newLink(t testing.TB, spec linkSpec, seed uint64) *simLink {
	if spec.ackEvery == 0 {
		spec.ackEvery = 8
	}
	if spec.ackDelay == 0 {
		spec.ackDelay = 2 * time.Millisecond
	}
	src := prng.FromUint64(seed)
	return &simLink{t: t, spec: spec, source: src, loss: src.Stream("loss"), jit: src.Stream("jitter")}
}

func (l *simLink) push(e simEvent) {
	l.seq++
	e.seq = l.seq
	l.heap = append(l.heap, e)
	for i := len(l.heap) - 1; i > 0; {
		p := (i - 1) / 4
		if !before(&l.heap[i], &l.heap[p]) {
			break
		}
		l.heap[i], l.heap[p] = l.heap[p], l.heap[i]
		i = p
	}
}

func before(a, b *simEvent) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (l *simLink) pop() simEvent {
	e := l.heap[0]
	n := len(l.heap) - 1
	l.heap[0] = l.heap[n]
	l.heap = l.heap[:n]
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < n; c++ {
			if before(&l.heap[c], &l.heap[least]) {
				least = c
			}
		}
		if least == i {
			return e
		}
		l.heap[i], l.heap[least] = l.heap[least], l.heap[i]
		i = least
	}
}

func (l *simLink) at(d time.Duration, f func()) {
	l.push(simEvent{at: machine.Time(d), kind: evCall, f: f})
}

func (l *simLink) run(until time.Duration) {
	for len(l.heap) > 0 && l.heap[0].at <= machine.Time(until) {
		e := l.pop()
		l.now = e.at
		switch e.kind {
		case evCall:
			e.f()
		case evDepart:
			l.depart()
		case evArrive:
			e.flow.arrive(e.n)
		case evAckTimer:
			e.flow.ackTimer = false
			e.flow.sendAck()
		case evAck:
			e.flow.handleAck(e.n)
		case evSend:
			e.flow.sendSet = false
			e.flow.send()
		case evLoss:
			e.flow.lossTimer()
		case evSlot:
			e.flow.slot()
		}
	}
	l.now = machine.Time(until)
}

// addFlow starts a bulk sender at start, or one of slots: a Poisson process,
// whose clumps ask more of a window, unless regular is set.
func (l *simLink) addFlow(c Controller, start, slotMean time.Duration) *simFlow {
	f := &simFlow{l: l, c: c, pending: -1, reorder: 8, largest: -1, windowMin: windowMax}
	if slotMean > 0 {
		f.pending = 0
		f.slotMean = slotMean
		f.slots = l.source.Stream(fmt.Sprintf("flow/%d/slots", len(l.flows)))
	}
	l.flows = append(l.flows, f)
	l.at(start, func() {
		if slotMean > 0 {
			f.slot()
		} else {
			f.send()
		}
	})
	return f
}

// bulk makes the sender one with endless data.
func (f *simFlow) bulk() {
	f.slotMean, f.pending = 0, -1
	f.send()
}

func (f *simFlow) slot() {
	if f.slotMean == 0 {
		return
	}
	f.slotCount++
	f.pending++
	f.send()
	if f.pending > 0 {
		f.blocked++
	}
	gap := f.slotMean
	if !f.regular {
		gap = f.slots.Exp(f.slotMean)
	}
	f.l.push(simEvent{at: f.l.now.Add(gap), kind: evSlot, flow: f})
}

func (f *simFlow) send() {
	now := f.l.now
	for f.pending != 0 && !f.stopped && f.inFlight+packetSize <= f.c.Window() {
		if rate := f.c.PacingRate(); rate > 0 {
			burst := time.Duration(BurstPackets * packetSize * uint64(time.Second) / rate)
			burst = max(burst, time.Millisecond)
			if f.nextSend > now {
				if !f.sendSet {
					f.sendSet = true
					f.l.push(simEvent{at: f.nextSend, kind: evSend, flow: f})
				}
				return
			}
			f.nextSend = max(f.nextSend, now.Add(-burst)).Add(time.Duration(packetSize * uint64(time.Second) / rate))
		}
		if f.pending > 0 {
			f.pending--
		}
		f.emit()
	}
}

func (f *simFlow) emit() {
	now := f.l.now
	n := len(f.packets)
	f.packets = append(f.packets, simPacket{Packet: Packet{SentAt: now, Bytes: packetSize}})
	f.inFlight += packetSize
	f.c.OnSent(now, &f.packets[n].Packet, f.inFlight, f.pending == 0)
	f.l.enqueue(f, n)
	f.setLossTimer()
}

func (l *simLink) enqueue(f *simFlow, n int) {
	if l.queueB+packetSize > l.spec.queueMax && len(l.queue) > 0 {
		l.drops++
		return
	}
	l.queue = append(l.queue, queued{f, n, l.now})
	l.queueB += packetSize
	if len(l.queue) == 1 {
		l.serve()
	}
}

func (l *simLink) serve() {
	l.push(simEvent{at: l.now.Add(time.Duration(packetSize * uint64(time.Second) / l.spec.rate)), kind: evDepart})
}

func (l *simLink) depart() {
	q := l.queue[0]
	l.queue = l.queue[1:]
	l.queueB -= packetSize
	if len(l.queue) > 0 {
		l.serve()
	}
	q.flow.waits = append(q.flow.waits, sampleAt{l.now, l.now.Sub(q.at)})
	if l.loss.Chance(l.spec.lossPPM) {
		return
	}
	l.push(simEvent{at: l.now.Add(l.spec.rtt/2 + l.draw(l.spec.jitter)), kind: evArrive, flow: q.flow, n: q.n})
}

func (l *simLink) draw(mean time.Duration) time.Duration {
	if mean == 0 {
		return 0
	}
	hops := max(l.spec.hops, 1)
	var d time.Duration
	for range hops {
		d += l.jit.Exp(mean / time.Duration(hops))
	}
	return d
}

func (f *simFlow) arrive(n int) {
	ms := int(f.l.now / machine.Time(time.Millisecond))
	for len(f.delivered) <= ms {
		f.delivered = append(f.delivered, 0)
	}
	f.delivered[ms] += packetSize
	f.ackNow = append(f.ackNow, n)
	if len(f.ackNow) >= f.l.spec.ackEvery {
		f.sendAck()
	} else if !f.ackTimer {
		f.ackTimer = true
		f.l.push(simEvent{at: f.l.now.Add(f.l.spec.ackDelay), kind: evAckTimer, flow: f})
	}
}

func (f *simFlow) sendAck() {
	if len(f.ackNow) == 0 {
		return
	}
	f.acks = append(f.acks, slices.Clone(f.ackNow))
	f.ackNow = f.ackNow[:0]
	f.l.push(simEvent{at: f.l.now.Add(f.l.spec.rtt/2 + f.l.draw(f.l.spec.ackJitter)), kind: evAck, flow: f, n: len(f.acks) - 1})
}

func (f *simFlow) handleAck(n int) {
	now := f.l.now
	ack := f.acks[n]
	f.acks[n] = nil
	slices.Sort(ack)
	var latest time.Duration
	for _, k := range ack {
		p := &f.packets[k]
		switch p.state {
		case 0:
			p.state = 1
			f.inFlight -= p.Bytes
			f.c.OnAcked(now, &p.Packet)
			latest = now.Sub(p.SentAt)
			f.rtts = append(f.rtts, sampleAt{now, latest})
		case 2:
			p.state = 1
			f.spurious++
			f.reorder = min(f.reorder+1, 32)
			f.c.OnSpurious(now, &p.Packet)
		}
		f.largest = max(f.largest, k)
	}
	if latest > 0 {
		if f.srtt == 0 {
			f.srtt, f.rttvar = latest, latest/2
		} else {
			f.rttvar += ((f.srtt - latest).Abs() - f.rttvar) / 4
			f.srtt += (latest - f.srtt) / 8
		}
	}
	f.detect(latest)
	f.c.OnAckEnd(now, latest, f.inFlight)
	f.windowMin = min(f.windowMin, f.c.Window())
	f.setLossTimer()
	f.send()
}

func (f *simFlow) threshold() time.Duration {
	if f.hasty {
		return f.srtt * 9 / 8
	}
	return max(f.srtt*9/8, f.srtt+4*f.rttvar) * f.reorder / 8
}

func (f *simFlow) detect(latest time.Duration) {
	limit := f.threshold()
	if !f.hasty {
		limit = max(limit, latest*9/8)
	}
	for f.head < len(f.packets) {
		p := &f.packets[f.head]
		if p.state == 0 {
			if f.head >= f.largest || f.l.now.Sub(p.SentAt) < limit {
				return
			}
			f.lose(p)
		}
		f.head++
	}
}

func (f *simFlow) lose(p *simPacket) {
	p.state = 2
	f.lost++
	f.inFlight -= p.Bytes
	f.c.OnLost(f.l.now, &p.Packet, f.inFlight)
}

// setLossTimer arms the probe timer: after a quiet probe timeout two packets
// leave whatever the window says, so that acknowledgements find what is lost.
func (f *simFlow) setLossTimer() {
	f.quietAt = f.l.now
	if !f.timerSet {
		f.timerSet = true
		f.l.push(simEvent{at: f.probeAt(), kind: evLoss, flow: f})
	}
}

func (f *simFlow) probeAt() machine.Time {
	if f.srtt == 0 {
		return f.quietAt.Add(time.Second)
	}
	return f.quietAt.Add(f.srtt + 4*f.rttvar + f.l.spec.ackDelay)
}

func (f *simFlow) lossTimer() {
	f.timerSet = false
	if f.inFlight == 0 {
		return
	}
	if at := f.probeAt(); at > f.l.now {
		f.timerSet = true
		f.l.push(simEvent{at: at, kind: evLoss, flow: f})
		return
	}
	f.emit()
	f.emit()
	f.probes += 2
}

// goodput is bytes per second that arrived in [from, to).
func (f *simFlow) goodput(from, to time.Duration) uint64 {
	var sum int
	for ms := int(from / time.Millisecond); ms < int(to/time.Millisecond) && ms < len(f.delivered); ms++ {
		sum += f.delivered[ms]
	}
	return rateOf(uint64(sum), to-from)
}

func percentile(s []sampleAt, from time.Duration, p int) time.Duration {
	var d []time.Duration
	for _, x := range s {
		if x.at >= machine.Time(from) {
			d = append(d, x.d)
		}
	}
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}

func mbit(rate uint64) string { return fmt.Sprintf("%.1f Mbit/s", float64(rate)*8/1e6) }

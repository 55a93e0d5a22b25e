package mix

// The set-up path of a hop, in order:
//
//  1. handleShard collects the frames of a train, within the limits of its
//     link; nine of twelve make the packet.
//  2. launch rebuilds it, refuses one seen before, and makes a job of the rest.
//  3. setupJob.Run, anywhere: KEM, MAC, one layer of routing, new parity.
//  4. HandleJob records the set-up, creates the route, and sends the train on
//     after its delay, or delivers the first flight.

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// trainTimeout is how long an unfinished train is kept: its frames are
	// sent at once, so that they arrive within the jitter of one link.
	trainTimeout = 5 * time.Second
	// trainsMax bounds unfinished trains, at 15 KB each, and trainsPerLinkMax
	// those over one link that is no node's.
	trainsMax        = 1024
	trainsPerLinkMax = 32
	// jobsMax bounds set-ups that wait for PollJob.
	jobsMax = 512
	// spareJobs is how many jobs are kept for reuse, 1 MB: what a rush of set-ups
	// brings between two rounds of the owner's loop.
	spareJobs = 64
)

// setupJob is a train being collected, then the work on it.
type setupJob struct {
	onion  onion
	parity parity
	have   uint16

	from link.ID
	id   uint32
	tag  [replayTagSize]byte

	private [onionKeys]*onionKey
	used    *onionKey
	keys    hopKeys
	routing wire.Routing
	result  peelResult
}

// train is what is known of a train id on a link until its timeout, so that
// frames that come late are known as such.
type train struct {
	next, prev *train
	from       *neighbour
	id         uint32
	expires    machine.Time
	job        *setupJob // nil: complete
}

// trainList holds trains in order of their timeout, which is the same for all.
type trainList struct {
	head, tail *train
	index      map[routeKey]*train
	unfinished int
}

func (l *trainList) next() machine.Time {
	if l.head == nil {
		return machine.Never
	}
	return l.head.expires
}

func (l *trainList) push(n *train) {
	if l.index == nil {
		l.index = make(map[routeKey]*train)
	}
	l.index[keyOf(n.from.id, n.id)] = n
	n.prev = l.tail
	if l.tail == nil {
		l.head = n
	} else {
		l.tail.next = n
	}
	l.tail = n
}

func (l *trainList) remove(n *train) {
	delete(l.index, keyOf(n.from.id, n.id))
	if n.prev == nil {
		l.head = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		l.tail = n.prev
	} else {
		n.next.prev = n.prev
	}
}

func (t *Table) handleShard(now machine.Time, from link.ID, frame []byte) {
	index, ok := wire.ShardIndex(frame)
	if !ok {
		t.counts[trace.DropSetupMalformed]++
		return
	}
	id := wire.FrameRouteID(frame)
	n := t.trains.index[keyOf(from, id)]
	if n == nil {
		if n = t.newTrain(now, from, id); n == nil {
			return
		}
	}
	j := n.job
	if j == nil || j.have&(1<<index) != 0 {
		return
	}
	all := shards(j.onion.packet(), &j.parity, allShards)
	copy(all[index], frame[wire.ShardOffset:])
	j.have |= 1 << index
	if ones(j.have) == wire.TrainData {
		n.job = nil
		t.trains.unfinished--
		n.from.trains--
		t.launch(j)
	}
}

func ones(v uint16) (n int) {
	for ; v != 0; v &= v - 1 {
		n++
	}
	return n
}

// newTrain admits the first frame of a train, or counts why not.
func (t *Table) newTrain(now machine.Time, from link.ID, id uint32) *train {
	if t.forward[keyOf(from, id)] != nil {
		t.counts[trace.DropSetupReplay]++
		return nil
	}
	n := t.neighbour(now, from)
	t.setups.refill(now, t.cfg.Limits.Setups)
	n.setups.refill(now, t.cfg.Limits.SetupsPerLink)
	tooMany := t.trains.unfinished >= trainsMax || !t.setups.has() || t.Routes() >= t.cfg.Limits.Routes
	if t.cfg.Node == nil || !t.cfg.Node(from) {
		tooMany = tooMany || n.trains >= trainsPerLinkMax || !n.setups.has() || int(n.routes) >= t.cfg.Limits.RoutesPerLink
	}
	if tooMany {
		t.counts[trace.DropSetupLimit]++
		return nil
	}
	t.setups.take()
	n.setups.take()
	tr := &train{from: n, id: id, expires: now.Add(trainTimeout), job: t.newJob()}
	tr.job.from, tr.job.id = from, id
	t.trains.unfinished++
	n.trains++
	t.trains.push(tr)
	return tr
}

func (t *Table) newJob() *setupJob {
	if n := len(t.spare); n > 0 {
		j := t.spare[n-1]
		t.spare = t.spare[:n-1]
		return j
	}
	return &setupJob{}
}

// putJob clears the small fields and keeps the job for reuse.
func (t *Table) putJob(j *setupJob) {
	j.keys.clear()
	j.have, j.private, j.used, j.routing, j.result = 0, [onionKeys]*onionKey{}, nil, wire.Routing{}, peelAuth
	if len(t.spare) < spareJobs {
		t.spare = append(t.spare, j)
	}
}

// expireTrains forgets trains whose time is over.
func (t *Table) expireTrains(now machine.Time) {
	for t.trains.next() <= now {
		n := t.trains.head
		t.trains.remove(n)
		if n.job != nil {
			t.counts[trace.DropSetupExpired]++
			t.abandon(n)
		}
	}
}

func (t *Table) abandon(n *train) {
	t.putJob(n.job)
	n.job = nil
	t.trains.unfinished--
	n.from.trains--
}

// dropTrains forgets the unfinished trains of a link that is gone.
func (t *Table) dropTrains(from *neighbour) {
	if from.trains == 0 {
		return
	}
	for n := t.trains.head; n != nil; {
		next := n.next
		if n.from == from && n.job != nil {
			t.trains.remove(n)
			t.abandon(n)
		}
		n = next
	}
}

// launch makes a job of a whole train.
func (t *Table) launch(j *setupJob) {
	t.counts[trace.SetupIn]++
	if j.have&dataShards != dataShards {
		all := shards(j.onion.packet(), &j.parity, j.have)
		if err := trainCode.Rebuild(all[:]); err != nil {
			panic("mix: nine shards of a train do not rebuild it: " + err.Error())
		}
	}
	j.tag = replayTag(j.onion[alphaAt:gammaAt])
	if t.seen(j.tag) {
		t.counts[trace.DropSetupReplay]++
		t.putJob(j)
		return
	}
	if t.jobs.len >= jobsMax {
		t.counts[trace.DropSetupLimit]++
		t.putJob(j)
		return
	}
	j.private = t.onions
	t.jobs.push(j)
}

// PollJob yields a set-up to be worked on.
func (t *Table) PollJob() (machine.Job, bool) {
	j, ok := t.jobs.pop()
	if !ok {
		return nil, false
	}
	return j, true
}

// Run peels the set-up with the present onion key, then with the others.
func (j *setupJob) Run() {
	for _, k := range j.private {
		if k == nil {
			continue
		}
		j.keys, j.routing, j.result = peel(&j.onion, k.private)
		if j.result == peelDone || j.result == peelMalformed {
			j.used = k
			break
		}
	}
	if j.result == peelDone && !j.routing.Last {
		encodeTrain(j.onion.packet(), &j.parity)
	}
}

// HandleJob takes back a job of PollJob. Any other job is not this table's and
// is left alone.
func (t *Table) HandleJob(now machine.Time, job machine.Job) {
	j, ok := job.(*setupJob)
	if !ok {
		return
	}
	if drop, dropped := t.finishSetup(now, j); dropped {
		t.counts[drop]++
	}
	t.putJob(j)
}

// finishSetup turns a peeled set-up into a route, or says why not.
func (t *Table) finishSetup(now machine.Time, j *setupJob) (drop trace.Counter, dropped bool) {
	switch j.result {
	case peelKey:
		return trace.DropSetupMalformed, true
	case peelAuth:
		return trace.DropSetupAuth, true
	}
	if !slices.Contains(t.onions[:], j.used) {
		return trace.DropSetupExpired, true
	}
	if t.seen(j.tag) {
		return trace.DropSetupReplay, true
	}
	if !t.record(j.used, j.tag) {
		return trace.DropSetupLimit, true
	}
	if j.result == peelMalformed {
		return trace.DropSetupMalformed, true
	}
	in := t.links[j.from]
	if in == nil || in.gone || !j.routing.Last && t.cfg.Next == nil || j.routing.Last && !t.cfg.EndOfRoute {
		return trace.DropSetupPeer, true
	}
	if t.forward[keyOf(j.from, j.id)] != nil {
		return trace.DropSetupReplay, true
	}
	if j.routing.Last {
		return t.endRoute(now, j, in)
	}
	return t.passSetup(now, j, in)
}

// endRoute creates a route that ends here and delivers the first flight.
func (t *Table) endRoute(now machine.Time, j *setupJob, in *neighbour) (drop trace.Counter, dropped bool) {
	first, ok := wire.ParseFirstFlight(j.onion[deltaAt:])
	if !ok {
		return trace.DropSetupMalformed, true
	}
	if t.deliveries.len >= t.cfg.Limits.Queue {
		return trace.DropSetupLimit, true
	}
	r := t.addRoute(now, j, in)
	t.deliver(Delivery{Route: End{r}, Kind: Opened, Level: r.level, Profile: j.routing.Profile, Packet: append([]byte(nil), first...)})
	return 0, false
}

// passSetup creates a route that goes on and sends the train after it.
func (t *Table) passSetup(now machine.Time, j *setupJob, in *neighbour) (drop trace.Counter, dropped bool) {
	next, ok := t.cfg.Next(now, j.routing.Next)
	if !ok {
		return trace.DropSetupPeer, true
	}
	out := t.neighbour(now, next)
	if out.gone {
		return trace.DropSetupPeer, true
	}
	if t.back[keyOf(next, j.routing.NextRoute)] != nil {
		return trace.DropSetupMalformed, true
	}
	if !t.room(wire.TrainFrames) {
		return trace.DropSetupLimit, true
	}
	r := t.addRoute(now, j, in)
	r.next, r.nextID = next, j.routing.NextRoute
	t.back[keyOf(next, r.nextID)] = r
	out.out.push(r, listOut)
	for i := range wire.TrainFrames {
		f := t.pool.Get()
		writeShard(f, r.nextID, i, j.onion.packet(), &j.parity)
		t.hold(now, j.routing.SetupDelay, next, f)
	}
	return 0, false
}

// addRoute creates the route of a peeled set-up; it takes the keys.
func (t *Table) addRoute(now machine.Time, j *setupJob, in *neighbour) *route {
	g := &j.routing
	r := &route{
		keys:        j.keys.cellKeys,
		expires:     now.Add(min(g.TTL, t.cfg.Limits.TTL)),
		heard:       now,
		out:         rested{g.ForwardStart, link.Rested},
		prev:        j.from,
		prevID:      j.id,
		backCounter: 1 + uint32(t.steps.Uint64N(wire.CounterStartMax-1)),
		backMicros:  uint32(g.BackMean / time.Microsecond),
		position:    g.Position,
		suite:       seal.Suite(g.Suite),
		level:       g.Level,
		last:        g.Last,
	}
	if r.backMicros > 0 {
		delay := j.keys.delay
		r.delay = &delay
	}
	t.forward[keyOf(r.prev, r.prevID)] = r
	in.in.push(r, listIn)
	in.routes++
	t.wheel.add(r, min(r.expires, now.Add(t.cfg.Limits.Quiet)))
	t.counts[trace.SetupDone]++
	return r
}

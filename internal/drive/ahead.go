package drive

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
)

const (
	// aheadMin is the least batch that is opened ahead: of a smaller one others
	// save no more than it costs to wake them (docs/performance.md).
	aheadMin = 64
	// stretch is how many datagrams in a row one goroutine opens: enough that
	// they seldom meet at the counter, few enough that all end together.
	stretch = 8
	// pauseMax bounds the batches that are left alone after one with which help
	// did not pay: at full load 100 ms. recheck is how many may pass with help
	// before one without shows what that takes by now.
	pauseMax = 1024
	recheck  = 64
	// roomRounds is how many rounds the room for results is kept unused.
	roomRounds = 4096
)

// ahead opens the datagrams of a batch on several goroutines, before the loop
// handles them in the order in which they came. What is found of a datagram lies
// in its own place of the batch, so that order is never lost: what differs is
// when a result is there.
//
// The loop is one of the goroutines, and all take stretches of the batch until
// none is left, so that nothing waits for a helper that has not begun. Helpers
// are goroutines that end with the batch.
type ahead struct {
	machine machine.Opener // nil: it is none, or ways is 1
	ways    int
	always  bool // whether it pays or not

	batch [roundMax][]byte
	count int              // datagrams in batch
	all   int              // stretches of it
	left  atomic.Int32     // stretches that nobody has begun; below 0: none
	ended atomic.Int32     // stretches that are open
	turn  atomic.Int32     // the last one in turns
	turns [stretches]int32 // as which each stretch was opened, from 1
	whole chan struct{}    // a token: a helper opened the last stretch
	alive sync.WaitGroup
	help  func() // assist, bound once: to start it allocates nothing

	pause, paused int           // batches to leave alone; how many the last pause was
	streak        int           // batches since the last one left alone
	opened        bool          // the present batch was opened ahead
	settled       bool          // the last batch was left alone
	since         time.Time     // the present batch began
	helped        int           // stretches of it that the loop did not open
	alone         time.Duration // that a datagram takes without help, about the median; 0: not known
	room          bool          // the machine has room for results
	unused        int           // rounds since it was used
	stats         AheadStats
}

const stretches = (roundMax + stretch - 1) / stretch

// AheadStats counts what was opened by several goroutines.
type AheadStats struct {
	Batches   uint64
	Datagrams uint64
	Helped    uint64 // stretches that another than the loop opened
	Pauses    uint64 // times when it did not pay
	// Corrections are the results that were there before an earlier datagram's
	// and had to wait for it: obf.reorder_corrections of the specification.
	Corrections uint64
	// HeldMost is the most of these in one batch, and Held the batches of which
	// more than half waited.
	HeldMost, Held uint64
}

// begin makes a ready for a machine.
func (a *ahead) begin(m machine.Machine, ways int) {
	opener, ok := m.(machine.Opener)
	a.always = ways != 0
	if !a.always {
		ways = runtime.GOMAXPROCS(0)
	}
	if a.ways = min(ways, stretches); !ok || a.ways < 2 {
		return
	}
	a.machine, a.help, a.whole = opener, a.assist, make(chan struct{}, 1)
}

// open opens datagrams first to last of what c has read, and reports whether it
// did: else the loop handles them as they are. The host's lock is held.
func (a *ahead) open(c Carrier, first, last int) bool {
	if a.machine == nil {
		return false
	}
	if a.count = last - first; a.count < aheadMin {
		a.idle()
		return false
	}
	a.since, a.opened = time.Now(), false
	if a.rests() {
		a.idle()
		return false
	}
	a.unused, a.room = 0, true
	a.machine.Batch(a.count)
	for i := range a.count {
		a.batch[i], _ = c.At(first + i)
	}
	a.all = (a.count + stretch - 1) / stretch
	a.ended.Store(0)
	a.turn.Store(0)
	a.left.Store(int32(a.all))
	helpers := min(a.ways, a.all) - 1
	a.alive.Add(helpers)
	for range helpers {
		go a.help()
	}
	go nothing()
	own, mine := a.work()
	if !mine {
		<-a.whole
	}
	a.opened, a.helped = true, a.all-own
	a.tell()
	return true
}

// rests reports whether the present batch is the loop's alone.
func (a *ahead) rests() bool {
	switch {
	case a.always:
		return false
	case a.pause > 0:
		a.pause--
	case a.alone == 0 || a.streak >= recheck:
		a.pause = 1 // of two in a row the second tells
	default:
		a.streak++
		return false
	}
	a.streak = 0
	return true
}

// handled notes that a round is over, with what it has sent: to send what another
// processor has opened costs more.
func (a *ahead) handled() {
	if a.machine != nil && a.count >= aheadMin && !a.always {
		a.judge(time.Since(a.since)/time.Duration(a.count), a.opened)
	}
}

// judge leaves the next batches to the loop alone if hardly anyone helped with
// this one, or if a datagram took hardly less than without, or more, as where the
// processors have other work, or where decryption costs less than to move its
// result from one to the other: twice as many each time.
func (a *ahead) judge(took time.Duration, opened bool) {
	settled := a.settled
	a.settled = !opened
	switch {
	case !opened && !settled: // it pays for what the last one has left elsewhere
	case !opened && a.alone == 0:
		a.alone = took
	case !opened && took > a.alone: // the median: a few are held up for long
		a.alone += a.alone / 32
	case !opened:
		a.alone -= a.alone / 32
	case a.helped*8 < a.all || took*10 > a.alone*9:
		a.paused = min(max(1, 2*a.paused), pauseMax)
		a.pause = a.paused
		a.stats.Pauses++
	default:
		a.paused /= 2
	}
}

// work opens stretches until none is left, and reports how many, and whether it
// opened the last of all.
func (a *ahead) work() (opened int, last bool) {
	for {
		left := int(a.left.Add(-1))
		if left < 0 {
			return opened, false
		}
		all := a.all // which is the next batch's once the last stretch is open
		s := all - 1 - left
		for i := s * stretch; i < min(a.count, (s+1)*stretch); i++ {
			a.machine.OpenAhead(i, a.batch[i])
		}
		opened++
		a.turns[s] = a.turn.Add(1)
		if int(a.ended.Add(1)) == all {
			return opened, true
		}
	}
}

// assist is a helper. It may come late, to find the batch open or to open
// stretches of the next one.
func (a *ahead) assist() {
	if _, last := a.work(); last {
		a.whole <- struct{}{}
	}
	a.alive.Done()
}

// nothing is started after the helpers: the goroutine that was started last waits
// for this processor some 50 µs before another may take it.
func nothing() {}

// tell counts a batch that was opened.
func (a *ahead) tell() {
	held, latest := 0, int32(0)
	for s, turn := range a.turns[:a.all] {
		if latest = max(latest, turn); turn < latest {
			held += min(stretch, a.count-s*stretch)
		}
	}
	s := &a.stats
	s.Batches++
	s.Datagrams += uint64(a.count)
	s.Helped += uint64(a.helped)
	s.Corrections += uint64(held)
	s.HeldMost = max(s.HeldMost, uint64(held))
	if 2*held > a.count {
		s.Held++
	}
}

// idle notes a round that opens nothing ahead.
func (a *ahead) idle() {
	if a.unused++; a.room && a.unused >= roomRounds {
		a.machine.Batch(0)
		a.room = false
	}
}

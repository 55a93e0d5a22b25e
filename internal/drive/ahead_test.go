package drive

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/mem"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

// opener is a machine.Opener that takes datagrams with numbers.
type opener struct {
	machine.Machine
	t      testing.TB
	batch  int
	found  []uint32 // by place
	got    []uint32
	opened atomic.Int32
	hold   func(i int)        // called before datagram i is opened
	then   func(opened int32) // and after
}

func (o *opener) Batch(n int) {
	o.batch, o.found = n, machine.Grow(o.found, n)
	clear(o.found)
	if n == 0 {
		o.found = nil
	}
}

func (o *opener) OpenAhead(i int, b []byte) {
	if o.hold != nil {
		o.hold(i)
	}
	o.found[i] = binary.BigEndian.Uint32(b)
	if opened := o.opened.Add(1); o.then != nil {
		o.then(opened)
	}
}

func (o *opener) HandleOpened(_ machine.Time, _ netip.AddrPort, b []byte, i int) {
	if o.found[i] != binary.BigEndian.Uint32(b) {
		o.t.Errorf("datagram %d comes with what was found of %d", binary.BigEndian.Uint32(b), o.found[i])
	}
	o.got = append(o.got, o.found[i])
}

// numbered is a connection that has read datagrams with the numbers from 1 to n.
func numbered(t testing.TB, n int) *mem.Conn {
	t.Helper()
	var net mem.Network
	to, err := net.Listen(netip.MustParseAddrPort("10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	from, err := net.Listen(netip.MustParseAddrPort("10.0.0.2:1"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b := from.Next()
		if b == nil {
			from.Flush()
			b = from.Next()
		}
		binary.BigEndian.PutUint32(b, uint32(i+1))
		from.Commit(wire.DatagramSize, to.Addr())
	}
	from.Flush()
	if got, err := to.Read(0); got != n || err != nil {
		t.Fatalf("%d of %d datagrams: %v", got, n, err)
	}
	return to
}

// A goroutine that is held up at a datagram holds up no other: they open the rest,
// which waits for that one and is counted.
func TestWhoIsHeldUpHoldsUpNobody(t *testing.T) {
	const count = 8 * stretch
	for _, ways := range []int{2, 4, 8, 16} {
		for _, held := range []int{0, 3*stretch + 2, count - 1} {
			first := held / stretch * stretch
			others := int32(count - stretch + held - first) // that can be open without it
			o := &opener{t: t}
			rest := make(chan struct{})
			o.hold = func(i int) {
				if i == held {
					<-rest
				}
			}
			o.then = func(opened int32) {
				if opened == others {
					close(rest)
				}
			}
			var a ahead
			a.begin(o, ways)
			if !a.open(numbered(t, count), 0, count) {
				t.Fatal("the batch was not opened")
			}
			a.alive.Wait()
			// The last of the others may have its turn just after the one held up.
			if want := count - 2*stretch - first; int(a.stats.Corrections) < want {
				t.Errorf("%d ways, held at %d: %d results waited, want %d at least", ways, held, a.stats.Corrections, want)
			}
			if most := 2*a.stats.HeldMost > count; most != (a.stats.Held == 1) {
				t.Errorf("%d ways, held at %d: %+v", ways, held, a.stats)
			}
			if got := o.opened.Load(); got != count {
				t.Errorf("%d of %d datagrams were opened", got, count)
			}
		}
	}
}

// A small batch is the loop's alone, as is every one of a host with one way.
func TestSmallBatchesAreLeftAlone(t *testing.T) {
	var a, one ahead
	a.begin(&opener{t: t}, 4)
	one.begin(&opener{t: t}, 1)
	c := numbered(t, aheadMin)
	if a.open(c, 0, aheadMin-1) || !a.open(c, 0, aheadMin) || one.open(c, 0, aheadMin) {
		t.Error("what is opened ahead is not what is large, on several ways")
	}
	a.alive.Wait()
}

// While help does not pay, ever fewer batches are tried; where it does, nearly
// all are. What the loop takes alone is looked at now and then.
func TestHelpThatDoesNotPayIsSeldomTried(t *testing.T) {
	const batches = 100_000
	a := ahead{all: 16, helped: 8}
	run := func(alone, helped time.Duration) (tries int) {
		for range batches {
			if a.rests() {
				a.judge(alone, false)
			} else {
				tries++
				a.judge(helped, true)
			}
		}
		return tries
	}
	if tries := run(1000, 950); tries > 11+batches/pauseMax {
		t.Errorf("help that saves a twentieth is tried in %d batches of %d", tries, batches)
	}
	if tries := run(1000, 800); tries < batches*9/10 {
		t.Errorf("help that saves a fifth is used in %d batches of %d", tries, batches)
	}
	if tries := run(700, 800); tries > batches/10 {
		t.Errorf("help that costs is used in %d batches of %d", tries, batches)
	}
	a.helped = 1
	if tries := run(1000, 700); tries > batches/10 {
		t.Errorf("where nobody helps, what was luck is taken for help in %d batches of %d", tries, batches)
	}
}

// What a rush needed is given back.
func TestRoomIsGivenBack(t *testing.T) {
	o := &opener{t: t}
	var a ahead
	a.begin(o, 2)
	c := numbered(t, aheadMin)
	a.open(c, 0, aheadMin)
	a.alive.Wait()
	for range roomRounds {
		if o.found == nil {
			t.Fatal("the room went while it was of use")
		}
		a.open(c, 0, 1)
	}
	if o.found != nil {
		t.Error("the room was kept")
	}
}

func TestOpeningAheadAllocatesNothing(t *testing.T) {
	const count = 8 * stretch
	c := numbered(t, count)
	o := &opener{t: t}
	var a ahead
	a.begin(o, 4)
	run := func() {
		a.open(c, 0, count)
		a.alive.Wait()
	}
	for range 100 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n >= 1 {
		t.Errorf("%v allocations a batch", n)
	}
}

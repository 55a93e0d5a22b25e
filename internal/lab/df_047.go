package lab

import (
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/lab/cpu"
	"github.com/nyxnet/nyx/internal/lab/duo"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/tunnel"
)

// node is a small object with pointers, of which a heap that costs the collector
// much is made.
type node struct {
	next   *node
	packet []*node
}

// collections is DF-047: bytes move through a session in turns, with the usual
// setting of the collector and with one that has it run twenty times as often for
// what is allocated. Throughput is counted by the processor time that a turn
// takes, which others on the machine change less than the clock's. The pauses
// observed are those of a turn together.
func collections(r *Run) error {
	got := make(chan int, 1)
	pair, err := duo.New(stream.Config{}, func(c *tunnel.Conn) { go drainTo(c, got) })
	if err != nil {
		return err
	}
	defer pair.Close()
	conn, err := pair.Open([]byte{1})
	if err != nil {
		return err
	}
	defer conn.Close()
	m := mover{conn: conn, got: got, total: 1, turn: int(r.Param("turn_mib")) << 20} // the stream's first byte
	if !r.Protected {
		m.litter = true
		for range int(r.Param("control_objects")) {
			m.heap = &node{next: m.heap}
		}
	}
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	percent := [2]int{100, int(r.Param("raised_gogc"))}
	var took [2][]time.Duration
	var runs [2]uint32
	for i := range r.Scaled("turns") + 1 {
		for k := range 2 {
			k = (i + k) % 2
			debug.SetGCPercent(percent[k])
			d, collected, pause, err := m.move()
			if err != nil {
				return err
			}
			if i == 0 {
				continue // it warms up
			}
			took[k], runs[k] = append(took[k], d), runs[k]+collected
			r.ObserveTime("stream_gc_pause_duration", pause)
		}
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	calm, raised := took[0][len(took[0])/2], took[1][len(took[1])/2]
	r.Note("a turn took %v of processor time, %v with the collector raised: medians of %d; %d and %d collections",
		calm, raised, len(took[0]), runs[0], runs[1])
	r.Tally("throughput_loss", uint64(max(0, raised-calm)), uint64(raised))
	return nil
}

// mover moves turns of bytes through a stream.
type mover struct {
	conn   *tunnel.Conn
	got    chan int
	total  int // bytes sent
	turn   int
	litter bool // an object for every packet, as of a data path that allocates
	heap   *node
	buf    [64 << 10]byte
}

// move moves a turn and returns its processor time, and how often and how long
// the collector stopped the program.
func (m *mover) move() (took time.Duration, collected uint32, pause time.Duration, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := cpu.Time()
	for range m.turn / len(m.buf) {
		if _, err := m.conn.Write(m.buf[:]); err != nil {
			return 0, 0, 0, err
		}
		if m.litter {
			for range len(m.buf) / 1024 {
				m.heap.packet = make([]*node, 1024/8)
			}
		}
	}
	for m.total += m.turn; <-m.got < m.total; {
	}
	took = cpu.Time() - begun
	runtime.ReadMemStats(&after)
	return took, after.NumGC - before.NumGC, time.Duration(after.PauseTotalNs - before.PauseTotalNs), nil
}

// drainTo reads a stream and tells how many bytes came so far, the newest only.
func drainTo(c io.Reader, got chan int) {
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		k, err := c.Read(buf)
		n += k
		select {
		case <-got:
		default:
		}
		got <- n
		if err != nil {
			close(got)
			return
		}
	}
}

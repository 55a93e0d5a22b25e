package anonymity

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Kind is what a flow carries.
type Kind string

// Kinds of traffic, dealt to the flows in turn.
const (
	Web   Kind = "web"   // a page every 5 s: 1 to 4 requests, answers of 2 to 40 kB
	Chat  Kind = "chat"  // a short message every 3 s, and one back
	Voice Kind = "voice" // 50 datagrams of 160 bytes a second in talk spurts of 1.2 s, pauses of 1.5 s
	Bulk  Kind = "bulk"  // 150 kB each half second for 9 s, then 5 s of rest; to the target or from it
)

// Kinds are all of them.
var Kinds = []Kind{Web, Chat, Voice, Bulk}

// packetBytes is the content of a packet, roughly: volumes are counted in it.
const packetBytes = 1000

// prefixSize is what a request begins with: its flow, and how long an answer it wants.
const prefixSize = 6

// isolation is the key of the session that stands from a client's beginning: routes
// of another one would be set up while flows are watched.
const isolation = ""

// traffic makes the flows of a network, and sees them behind the exits, as who
// watches the targets does.
type traffic struct {
	net        *lab.Network
	begin, end machine.Time
	load       float64 // times what kinds say
	up, down   [][]attack.Burst
	answers    int
}

// install puts the services behind the exits.
func (t *traffic) install(flows int) {
	t.up, t.down = make([][]attack.Burst, flows), make([][]attack.Burst, flows)
	for _, g := range t.net.Gateways {
		g.Service.Arrived = func(now machine.Time, body []byte, fresh int) {
			if len(body) >= prefixSize {
				t.note(t.up, now, body, fresh)
			}
		}
		g.Service.Message = func(now machine.Time, b []byte) { t.note(t.up, now, b, len(b)) }
		g.Service.Answer = func(now machine.Time, body []byte) []byte {
			if len(body) < prefixSize {
				return nil
			}
			size := binary.BigEndian.Uint32(body[2:])
			t.note(t.down, now, body, int(size))
			return make([]byte, size)
		}
	}
}

func (t *traffic) note(flows [][]attack.Burst, now machine.Time, body []byte, size int) {
	if now < t.begin || now >= t.end || size == 0 {
		return
	}
	flow := &flows[binary.BigEndian.Uint16(body)]
	packets := math.Ceil(float64(size) / packetBytes)
	if n := len(*flow); n > 0 && (*flow)[n-1].At == now {
		(*flow)[n-1].Packets += packets
		return
	}
	*flow = append(*flow, attack.Burst{At: now, Packets: packets})
}

// open has every user make the first request of its session.
func (t *traffic) open() {
	for i := range t.net.Users {
		t.ask(i, prefixSize, 1)
	}
}

// start has a user begin its flow. Load makes pages, messages and datagrams more
// frequent, and transfers faster; what sizes and pauses are stays.
func (t *traffic) start(i int, kind Kind) {
	rng := t.net.Sim.Rand("sizes/" + t.net.Users[i].Node.Name)
	label := string(kind) + "/" + t.net.Users[i].Node.Name
	switch kind {
	case Web:
		t.net.Poisson(label, 0.2*t.load, t.end, func(machine.Time, int) {
			for range 1 + rng.IntN(4) {
				t.ask(i, 200+rng.IntN(1000), 2000+rng.IntN(38_000))
			}
		})
	case Chat:
		t.net.Poisson(label, t.load/3, t.end, func(machine.Time, int) { t.ask(i, 60+rng.IntN(340), 60+rng.IntN(340)) })
	case Voice:
		t.net.Users[i].Flow(isolation, func(_ machine.Time, send func(machine.Time, []byte) error) {
			frame := make([]byte, 160)
			binary.BigEndian.PutUint16(frame, uint16(i))
			t.spurts(rng, 1200*time.Millisecond, 1500*time.Millisecond, time.Duration(float64(20*time.Millisecond)/t.load), func() {
				t.net.Sim.Do(t.net.Users[i].Node, func(now machine.Time) { _ = send(now, frame) }) // no room is a lost frame
			})
		})
	case Bulk:
		up, down := int(150_000*t.load), 100
		if i/len(Kinds)%2 == 1 {
			up, down = down, up
		}
		t.spurts(rng, 9*time.Second, 5*time.Second, 500*time.Millisecond, func() { t.ask(i, up, down) })
	}
}

// spurts calls f every so often while it is on, for exponential times on and off.
func (t *traffic) spurts(rng *prng.Stream, on, off, every time.Duration, f func()) {
	var from machine.Time
	var begin func(machine.Time)
	begin = func(now machine.Time) {
		until := now.Add(rng.Exp(on))
		t.net.Sim.Every(now, every, func(now machine.Time) bool {
			if now >= until || now >= t.end {
				return false
			}
			f()
			return true
		})
		if next := until.Add(rng.Exp(off)); next < t.end {
			t.net.Sim.At(next, begin)
		}
	}
	from = max(t.net.Sim.Now(), t.begin)
	t.net.Sim.At(from.Add(rng.Exp(off)/2), begin)
}

func (t *traffic) ask(i, up, down int) {
	body := make([]byte, max(up, prefixSize))
	binary.BigEndian.PutUint16(body, uint16(i))
	binary.BigEndian.PutUint32(body[2:], uint32(down))
	t.net.Users[i].Ask(isolation, body, func(_ machine.Time, _ []byte, err error) {
		if err == nil {
			t.answers++
		}
	})
}

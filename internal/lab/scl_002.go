package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// sessionCreates is SCL-002: clients within the rate limit ask the Stream nodes for
// sessions, while others ask far beyond it. An error is a refusal of one of the
// former, or no answer in answerMost.
func sessionCreates(r *Run) error {
	queue := 0
	if !r.Protected {
		queue = -1
	}
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("stream_nodes")), Hop: wan, Gateway: func(c *gateway.Config) {
		c.Policy.PerMinute, c.Policy.PerSecond = int(r.Param("limit_per_minute")), int(r.Param("admitted_per_node_per_second"))
		c.Policy.QueueMax = queue
	}})
	if err != nil {
		return err
	}
	// A knocker is a client of each of the nodes, under another name at each.
	perKnocker := float64(len(w.Gateways)) * r.Param("creates_per_client_per_minute") / 60
	crowd := newKnockers(w, "crowd", int(r.Param("creates_per_second")/perKnocker))
	greedy := newKnockers(w, "greedy", int(r.Param("greedy_clients")))
	w.Sim.RunFor(2 * time.Second)
	end := w.Sim.Now().Add(time.Duration(float64(r.Duration("seconds", time.Second)) * r.Scale))
	turn := 0
	w.Poisson("creates", r.Param("creates_per_second"), end, func(now machine.Time, i int) {
		k, g := crowd[i%len(crowd)], w.Gateways[(i+i/len(crowd))%len(w.Gateways)]
		k.knock(g, func(refused bool) { r.Trial("api_handshake_errors_total", refused) })
	})
	beyond, admitted := 0, 0
	w.Poisson("greedy", r.Param("greedy_per_second"), end, func(machine.Time, int) {
		k := greedy[turn%len(greedy)]
		g := w.Gateways[(turn+turn/len(greedy))%len(w.Gateways)]
		turn++
		beyond++
		k.knock(g, func(refused bool) {
			if !refused {
				admitted++
			}
		})
	})
	w.Sim.RunUntil(end.Add(answerMost + time.Second))
	n := w.counts()
	r.Note("%d knockers, each a client of %d nodes, within the limit, and %d greedy ones: of the latter's %d requests %d were admitted; the nodes counted %d refusals", len(crowd), len(w.Gateways), len(greedy), beyond, admitted, n[trace.HandshakeErrors])
	return nil
}

// answerMost is by when a client has given a SESSION_INIT up.
const answerMost = 2500 * time.Millisecond

// knocker is a client that has a link to each Stream node and asks for sessions.
type knocker struct {
	bare
	net    *Network
	node   *sim.Node
	id     uint64
	nonces *prng.Stream
	asked  map[[16]byte]func(refused bool) // by nonce
}

// newKnockers adds knockers, whose links are dialled within a second.
func newKnockers(w *Network, name string, count int) []*knocker {
	out := make([]*knocker, count)
	for i := range out {
		k := &knocker{net: w, id: uint64(len(w.knockers) + 1), asked: map[[16]byte]func(bool){}}
		w.knockers = append(w.knockers, k)
		k.node = w.Sim.AddNode(sim.NodeConfig{Name: fmt.Sprint(name, "-", i), Addr: nodeAddr(userNet, len(w.knockers)), Region: w.regionOf(0),
			New: func(_ machine.Time, rng prng.Source) machine.Machine {
				k.nonces = rng.Stream("nonces")
				k.start(rng)
				return k
			}})
		for j, g := range w.Gateways {
			w.Sim.At(w.Sim.Now().Add(time.Duration((i*len(w.Gateways)+j)%1000)*time.Millisecond), func(machine.Time) {
				w.Sim.Do(k.node, func(now machine.Time) { k.dial(now, g) })
			})
		}
		out[i] = k
	}
	return out
}

func (k *knocker) dial(now machine.Time, g *Gateway) link.ID {
	key, at, _ := k.net.neighbour(g.ID)
	return k.links.Dial(now, g.ID, key, at)
}

// knock asks a node for a session, and tells what became of it.
func (k *knocker) knock(g *Gateway, done func(refused bool)) {
	m := wire.SessionInit{Version: wire.AdmissionVersion}
	binary.BigEndian.PutUint64(m.ClientID[:], k.id)
	k.nonces.Read(m.Nonce[:])
	k.asked[m.Nonce] = done
	k.net.Sim.Do(k.node, func(now machine.Time) {
		f := k.pool.Get()
		m.Put(f)
		k.links.Push(k.dial(now, g), f)
	})
	k.net.Sim.After(answerMost, func(machine.Time) { k.answered(m.Nonce, true) })
}

func (k *knocker) answered(nonce [16]byte, refused bool) {
	if done := k.asked[nonce]; done != nil {
		delete(k.asked, nonce)
		done(refused)
	}
}

// HandleDatagram takes what a node answers.
func (k *knocker) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	_, frame, ok := k.links.HandleDatagram(now, from, b)
	if !ok || wire.FrameType(frame[0]) != wire.FrameAdmission {
		return
	}
	switch m, _ := wire.ParseAdmission(frame); m.Kind {
	case wire.AdmissionReady:
		k.answered(m.Ready.Nonce, false)
	case wire.AdmissionRefused:
		k.answered(m.Refused.Nonce, true)
	}
}

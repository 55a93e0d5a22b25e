package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// reassembledWithin is by when a message must be whole.
const reassembledWithin = 30 * time.Second

// fragmentBytes is what of a message travels in one packet, and fragmentHead
// the message's number, the fragment's and their count in the control.
const (
	fragmentBytes = 1000
	fragmentHead  = 8
)

// fragments is DF-045: messages of several packets under loss, reordering and
// duplication, compared at both ends.
func fragments(r *Run) error {
	size := int(r.Param("message_bytes"))
	parts := (size + fragmentBytes - 1) / fragmentBytes
	// A message misses a part with the chance of the load if each datagram of
	// its way, five hops for each of its parts, is lost with this one.
	loss := 1 - math.Pow(1-r.Param("reassembly_share"), 1/float64(5*parts))
	link := wan
	link.Loss, link.Duplicate = uint64(loss*1e6), 10_000
	link.JitterMean = 2 * time.Millisecond
	w, err := r.NewNetwork(Plan{Streams: 10, Mixes: 15, Level: wire.Fast, Hop: link,
		Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return err
	}
	const users = 20
	w.AddUsers(users)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	r.Note("loss of %.3f %% on each of 5 hops for each of %d packets of a message", loss*100, parts)
	messages := r.Scaled("messages")
	if r.Protected {
		streamMessages(r, w, messages, size)
	} else {
		datagramMessages(r, w, messages, size, parts)
	}
	var again uint64
	for _, u := range w.Users {
		counts := u.Core().Stats()
		again += counts[trace.Retransmitted]
	}
	r.Tally("reassembly_requests", min(again, uint64(messages)), uint64(messages))
	return nil
}

// messageRate is the messages of a second over all users.
const messageRate = 200

// streamMessages sends each message as a stream of its own. The service
// answers with the digest of what it got.
func streamMessages(r *Run, w *Network, messages, size int) {
	for _, g := range w.Gateways {
		g.Service.Answer = func(_ machine.Time, body []byte) []byte {
			h := sha256.Sum256(body)
			return h[:]
		}
	}
	end := w.Sim.Now().Add(time.Duration(messages) * time.Second / messageRate)
	answered, sent := 0, 0
	w.Poisson("messages", messageRate, end, func(_ machine.Time, i int) {
		body := messageBody(r, i, size)
		want := sha256.Sum256(body)
		sent++
		late := false
		w.Sim.After(reassembledWithin, func(machine.Time) { late = true })
		w.Users[i%len(w.Users)].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			if !late {
				answered++
				r.Trial("stream_fragment_reassembly_error", err != nil || !bytes.Equal(answer, want[:]))
			}
		})
	})
	w.Sim.RunUntil(end.Add(reassembledWithin + time.Second))
	r.Tally("stream_fragment_reassembly_error", uint64(sent-answered), uint64(sent-answered))
}

// datagramMessages is the control: the parts of a message travel as datagrams,
// which nobody sends again.
func datagramMessages(r *Run, w *Network, messages, size, parts int) {
	got := map[uint32]int{}
	for _, g := range w.Gateways {
		g.Service.Message = func(_ machine.Time, b []byte) {
			if len(b) > fragmentHead {
				got[binary.BigEndian.Uint32(b)]++
			}
		}
	}
	sends := make([]func(machine.Time, []byte) error, len(w.Users))
	for i, u := range w.Users {
		u.Flow("a", func(_ machine.Time, send func(machine.Time, []byte) error) { sends[i] = send })
	}
	w.Sim.RunFor(5 * time.Second)
	end := w.Sim.Now().Add(time.Duration(messages) * time.Second / messageRate)
	sent := 0
	w.Poisson("messages", messageRate, end, func(_ machine.Time, i int) {
		u := w.Users[i%len(w.Users)]
		body := messageBody(r, i, size)
		w.Sim.Do(u.Node, func(now machine.Time) {
			for k := range parts {
				b := binary.BigEndian.AppendUint32(nil, uint32(i))
				b = binary.BigEndian.AppendUint32(b, uint32(k))
				b = append(b, body[k*fragmentBytes:min(size, (k+1)*fragmentBytes)]...)
				if send := sends[i%len(w.Users)]; send != nil {
					send(now, b)
				}
			}
		})
		sent++
	})
	w.Sim.RunUntil(end.Add(5 * time.Second))
	for i := range sent {
		r.Trial("stream_fragment_reassembly_error", got[uint32(i)] < parts)
	}
}

func messageBody(r *Run, i, size int) []byte {
	body := make([]byte, size)
	r.Source("messages").Stream(fmt.Sprint(i)).Read(body)
	return body
}

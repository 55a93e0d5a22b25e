package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// fragmentBytes is what of a message travels in one packet of the control.
const fragmentBytes = 1000

// messageRate is the messages of a second over all users.
const messageRate = 200

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
		repairedMessages(r, w, messages, size)
	} else {
		onceMessages(r, w, messages, size, parts)
	}
	var again uint64
	for _, u := range w.Users {
		counts := u.Core().Stats()
		again += counts[trace.Retransmitted]
	}
	r.Tally("reassembly_requests", min(again, uint64(messages)), uint64(messages))
	return nil
}

// messageFlow sends messages over one flow of each user, and counts those that
// the service did not get whole: sent at a rate, each by send.
func messageFlow(r *Run, w *Network, messages, size int, send func(pass func([]byte), i int, body []byte), whole func(i int) bool) {
	sends := make([]func(machine.Time, []byte) error, len(w.Users))
	for i, u := range w.Users {
		u.Flow("a", func(_ machine.Time, pass func(machine.Time, []byte) error) { sends[i] = pass })
	}
	w.Sim.RunFor(5 * time.Second)
	end := w.Sim.Now().Add(time.Duration(messages) * time.Second / messageRate)
	sent := 0
	w.Poisson("messages", messageRate, end, func(_ machine.Time, i int) {
		u := i % len(w.Users)
		w.Sim.Do(w.Users[u].Node, func(now machine.Time) {
			if pass := sends[u]; pass != nil {
				send(func(b []byte) { pass(now, b) }, i, messageBody(r, i, size))
			}
		})
		sent++
	})
	w.Sim.RunUntil(end.Add(5 * time.Second))
	for i := range sent {
		r.Trial("stream_fragment_reassembly_error", !whole(i))
	}
}

// repairedMessages sends messages as such: their session sends again what is
// lost of them. The service compares each with what was sent.
func repairedMessages(r *Run, w *Network, messages, size int) {
	got := map[uint32]bool{}
	for _, g := range w.Gateways {
		g.Service.Message = func(_ machine.Time, b []byte) {
			i := binary.BigEndian.Uint32(b)
			twice := got[i]
			got[i] = !twice && bytes.Equal(b, messageBody(r, int(i), size))
		}
	}
	messageFlow(r, w, messages, size, func(pass func([]byte), _ int, body []byte) { pass(body) },
		func(i int) bool { return got[uint32(i)] })
}

// onceMessages is the control: the parts of a message travel as datagrams,
// which nobody sends again.
func onceMessages(r *Run, w *Network, messages, size, parts int) {
	got := map[uint32]int{}
	for _, g := range w.Gateways {
		g.Service.Message = func(_ machine.Time, b []byte) { got[binary.BigEndian.Uint32(b)]++ }
	}
	messageFlow(r, w, messages, size, func(pass func([]byte), i int, body []byte) {
		for k := range parts {
			b := binary.BigEndian.AppendUint32(nil, uint32(i))
			pass(append(b, body[k*fragmentBytes:min(size, (k+1)*fragmentBytes)]...))
		}
	}, func(i int) bool { return got[uint32(i)] == parts })
}

// messageBody is the message of a number, which stands in its first bytes.
func messageBody(r *Run, i, size int) []byte {
	body := make([]byte, size)
	r.Source("messages").Stream(fmt.Sprint(i)).Read(body)
	binary.BigEndian.PutUint32(body, uint32(i))
	return body
}

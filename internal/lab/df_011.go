package lab

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/wire"
)

// packetOverhead is what IP and UDP add to a datagram.
const packetOverhead = 20 + 8

// recordRate is the records of a second over all users.
const recordRate = 100

// wordsBytes is what the words of a record take in its compressed frame, about.
const wordsBytes = 170

// frameGrowth is DF-011: what the users' application writes gets harder to
// compress in the middle of the run. Every second user's application cannot
// compress at all, and is served as it is. The exit answers with the digest of
// the content.
func frameGrowth(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: 4, Mixes: 9, Level: wire.Fast, Hop: wan,
		Client: func(c *client.Config) { c.Ahead = -1 }})
	if err != nil {
		return err
	}
	w.AddUsers(20)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return err
	}
	codec := &pack.Codec{}
	for _, g := range w.Gateways {
		g.Service.Answer = func(_ machine.Time, body []byte) []byte {
			content, ok := body[1:], true
			if body[0] == byte(wire.TCPCompressed) {
				content, ok = codec.OpenChunk(content)
			}
			h := sha256.Sum256(content)
			if !ok {
				return nil
			}
			return h[:]
		}
	}
	mtu := int(r.Param("mtu_bytes"))
	if r.Protected {
		w.Sim.Observe(func(s sim.Sight) { r.Trial("mtu_fragmentation", s.Size+packetOverhead > mtu) })
	}
	records := r.Scaled("records")
	size := int(r.Param("record_bytes"))
	end := w.Sim.Now().Add(time.Duration(records) * time.Second / recordRate)
	answered, sent := 0, 0
	w.Poisson("records", recordRate, end, func(_ machine.Time, i int) {
		noise := int(r.Param("frame_before_bytes"))
		if i >= records/2 {
			noise = int(r.Param("frame_after_bytes"))
		}
		content := record(r, i, size, noise-wordsBytes)
		body := append([]byte{byte(wire.TCP)}, content...)
		if i%2 == 0 {
			before := codec.Sizes()
			body = codec.AppendChunk([]byte{byte(wire.TCPCompressed)}, content)
			r.Observe("stream_compressed_frame_size", float64(codec.Sizes().Sum-before.Sum))
			if !r.Protected {
				r.Trial("mtu_fragmentation", len(body)-1+packetOverhead > mtu)
			}
		}
		sent++
		want := sha256.Sum256(content)
		w.Users[i%len(w.Users)].Ask("a", body, func(_ machine.Time, answer []byte, err error) {
			if err == nil && bytes.Equal(answer, want[:]) {
				answered++
			}
		})
	})
	w.Sim.RunUntil(end.Add(30 * time.Second))
	r.Tally("content_delivered", uint64(answered), uint64(sent))
	return nil
}

// record is what an application writes: so many bytes of noise, half to one and
// a half of the mean, and words that repeat.
func record(r *Run, i, size, noise int) []byte {
	draw := r.Source("records").Stream(fmt.Sprint(i))
	b := bytes.Repeat([]byte("the words of a form that everybody fills in. "), size/45+1)[:size]
	draw.Read(b[:noise/2+int(draw.Uint64N(uint64(noise)))])
	return b
}

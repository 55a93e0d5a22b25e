package lab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// metadataRate is the messages of a second over all users; every sixth time
	// there is a request too, of askedBytes.
	metadataRate = 300
	askedEvery   = 6
	askedBytes   = 8 << 10
	// attributesEvery is how often a user's attributes change, those of
	// standingStreams, which stay open, among them.
	attributesEvery = 20 * time.Millisecond
	standingStreams = 12
)

// metadataGrowth is DF-041: the same traffic without new attributes and with them.
func metadataGrowth(r *Run) error {
	if !r.Protected {
		return uncutFrames(r)
	}
	plain, err := r.withMetadata(false)
	if err != nil {
		return err
	}
	grown, err := r.withMetadata(true)
	if err != nil {
		return err
	}
	r.Observe("metadata_growth", grown/plain-1)
	r.Note("%.1f bytes of metadata in a packet, with the new attributes %.1f", plain, grown)
	return nil
}

// withMetadata carries the traffic and returns the mean of a packet's metadata.
func (r *Run) withMetadata(grown bool) (mean float64, err error) {
	var sum, packets float64
	sink := func(e trace.Event) {
		if e.Kind != trace.PacketTaken {
			return
		}
		sum, packets = sum+float64(e.A), packets+1
		if grown {
			r.Observe("stream_metadata_size", float64(e.A))
			r.Observe("stream_frame_size", float64(e.B))
		}
	}
	hop := sim.Link{Latency: 10 * time.Millisecond, JitterMean: 2 * time.Millisecond, Loss: 20_000}
	w, err := r.NewNetwork(Plan{Streams: 4, Mixes: 6, Level: wire.Fast, Hop: hop,
		Gateway: func(c *gateway.Config) { c.Stream.Sink = sink },
		Client: func(c *client.Config) {
			c.Ahead, c.Stream.Sink = -1, sink
			for n := range uint16(24) {
				if grown {
					c.Stream.Optional = append(c.Stream.Optional, 1000+n)
				}
			}
		}})
	if err != nil {
		return 0, err
	}
	w.AddUsers(10)
	if err := w.WaitReadyOrOpen(30 * time.Second); err != nil {
		return 0, err
	}
	got := map[uint32]bool{}
	for _, g := range w.Gateways {
		g.Service.Message = func(_ machine.Time, b []byte) {
			i := binary.BigEndian.Uint32(b)
			got[i] = bytes.Equal(b, r.metadataMessage(int(i)))
		}
	}
	flows := make([]func(machine.Time, []byte) error, len(w.Users))
	for i, u := range w.Users {
		u.Flow("a", func(_ machine.Time, send func(machine.Time, []byte) error) { flows[i] = send })
	}
	w.Sim.RunFor(5 * time.Second)
	sum, packets = 0, 0
	messages := r.Scaled("messages")
	end := w.Sim.Now().Add(time.Duration(messages) * time.Second / metadataRate)
	for _, u := range w.Users {
		standing := make([]session.Ref, standingStreams)
		for i := range standing {
			w.Sim.Do(u.Node, func(now machine.Time) { standing[i], err = u.Core().Open(now, "a", u.target(wire.TCP)) })
			if err != nil {
				return 0, err
			}
		}
		w.Sim.Every(w.Sim.Now().Add(attributesEvery), attributesEvery, func(now machine.Time) bool {
			if grown {
				u.changeAttributes(standing, uint8(now/machine.Time(attributesEvery)))
			}
			return now < end
		})
	}
	sent, asked, answered := 0, 0, 0
	w.Poisson("messages", metadataRate, end, func(_ machine.Time, i int) {
		u := w.Users[i%len(w.Users)]
		w.Sim.Do(u.Node, func(now machine.Time) {
			flows[i%len(w.Users)](now, r.metadataMessage(i))
		})
		sent++
		if i%askedEvery == 0 {
			body := messageBody(r, i, askedBytes)
			asked++
			u.Ask("a", body, func(_ machine.Time, answer []byte, err error) {
				if err == nil && bytes.Equal(answer, body) {
					answered++
				}
			})
		}
	})
	w.Sim.RunUntil(end.Add(10 * time.Second))
	whole := 0
	for _, ok := range got {
		if ok {
			whole++
		}
	}
	r.Tally("content_delivered", uint64(whole+answered), uint64(sent+asked))
	return sum / packets, nil
}

// metadataMessage is the message of a number.
func (r *Run) metadataMessage(i int) []byte {
	least, most := int(r.Param("message_least")), int(r.Param("message_most"))
	return messageBody(r, i, least+i%(most-least+1))
}

// changeAttributes gives streams of one session other lanes, a lane another weight,
// and the peer signs of life and reports.
func (u *User) changeAttributes(streams []session.Ref, turn uint8) {
	u.net.Sim.Do(u.Node, func(now machine.Time) {
		core := u.Core()
		m := core.Get(streams[0].Session)
		for _, ref := range streams {
			core.SetLane(now, ref, stream.Lane(turn%3), 0)
		}
		core.SetWeight(now, streams[0].Session, stream.Lane(turn%3), 1+turn%8, 0)
		m.Core.SendHeartbeat(now)
		m.Core.SendClass(now, 100+uint64(turn%2))
		m.Core.NoteDrops(now, 1, 1)
		core.Touch(m)
	})
}

// uncutFrames is the control: each message is one frame with the attributes that
// changed since the last, and a datagram of its own, as large as that makes it. A
// link takes datagrams of one size.
func uncutFrames(r *Run) error {
	static, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{41})
	if err != nil {
		return err
	}
	var counts trace.Counts
	far := link.New(link.Config{Self: wire.NodeID{41}, Static: static, AcceptAnonymous: true}, r.Source("far"), &wire.Pool{}, &counts)
	from := netip.MustParseAddrPort("192.0.2.41:1")
	for i := range r.Scaled("messages") {
		body := r.metadataMessage(i)
		frame := wire.AppendMessageHeader(nil, 0, uint64(i), 0, len(body), true)
		attributes := len(frame)
		frame = append(frame, body...)
		version := uint32(i)
		before := len(frame)
		frame = wire.PriorityFrame{Stream: 2 * uint64(i), Lane: uint8(i % 3), Version: version}.Append(frame)
		frame = wire.LaneFrame{Lane: uint8(i % 3), Weight: 1, Version: version}.Append(frame)
		frame = wire.AppendValue(frame, wire.SFrameHeartbeat, uint64(i))
		frame = wire.AppendValue(frame, wire.SFrameClass, 100)
		frame = wire.NackFrame{Reason: 1, Packets: 1}.Append(frame)
		r.Observe("stream_metadata_size", float64(attributes+len(frame)-before))
		r.Observe("stream_frame_size", float64(len(frame)))
		refused := counts[trace.DropSize]
		far.HandleDatagram(0, from, make([]byte, wire.DatagramSize+max(0, len(frame)-wire.SessionPayloadSize)))
		r.Trial("content_delivered", counts[trace.DropSize] == refused)
	}
	return nil
}

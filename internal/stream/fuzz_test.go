package stream

import (
	"bytes"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// after runs the session on for a while after strange input: whatever it
// holds, timers and polls come to an end.
func after(t *testing.T, s *Session) {
	now := s.lastSent
	var b [wire.SessionPacketSize]byte
	for range 200 {
		for range 100 {
			if !s.PollPacket(now, 0, b[:]) {
				break
			}
		}
		drain(s)
		next := s.NextTimer()
		if next > now.Add(time.Hour) {
			return
		}
		if now = max(now, next); now == next {
			s.HandleTimer(now)
		}
	}
}

// FuzzHandlePacket gives a session any packet: none is accepted, none harms.
func FuzzHandlePacket(f *testing.F) {
	l := newLoop(f, Config{}, Config{})
	id, _ := l.client.OpenStream(l.now, PriorityNormal)
	l.client.Write(l.now, id, []byte("seed"))
	var b [wire.SessionPacketSize]byte
	l.client.PollPacket(l.now, 0, b[:])
	b[100] ^= 1 // the packet itself would be accepted
	f.Add(uint8(0), b[:])
	for k := range byte(8) {
		f.Add(k, append([]byte{k}, b[1:]...))
	}
	f.Fuzz(func(t *testing.T, path uint8, p []byte) {
		if len(p) > wire.SessionPacketSize {
			p = p[:wire.SessionPacketSize]
		}
		in := l.counts[trace.SessionPacketIn]
		l.client.HandlePacket(l.now, path, bytes.Clone(p))
		l.server.HandlePacket(l.now, path, bytes.Clone(p))
		if l.counts[trace.SessionPacketIn] != in {
			t.Error("a packet of nobody was accepted")
		}
		if !l.client.Established() || !l.server.Established() {
			t.Error("a packet of nobody ended a session")
		}
	})
}

// FuzzFrames gives a session authentic packets with any content, as a faulty
// peer would: it goes on or closes, and what it holds stays bounded.
func FuzzFrames(f *testing.F) {
	frames := [][]byte{
		{1}, wire.AppendValue(nil, wire.SFrameMaxData, 1<<40), wire.AppendValue(nil, wire.SFramePath, 3),
		wire.AppendMaxStreamData(nil, 0, 1<<30), wire.StopFrame{Stream: 0, Code: 1}.Append(nil),
		wire.ResetFrame{Stream: 1, Code: 2, Final: 5}.Append(nil), wire.CloseFrame{Code: 3, Reason: []byte("bye")}.Append(nil),
		wire.DatagramFrame{Flow: 1, Data: []byte("d")}.Append(nil), wire.NackFrame{Reason: 1, Packets: 2}.Append(nil),
		append(wire.AppendStreamHeader(nil, 1, 0, 5, true), "hello"...), append(wire.AppendStreamHeader(nil, 1, 9, 2, false), "lo"...),
		{2, 3, 0, 0, 1}, {2, 1, 0, 0, 0},
	}
	for i := range frames {
		f.Add(frames[i], frames[(i+1)%len(frames)])
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		l := newLoop(t, Config{}, Config{})
		for i := range 3 { // something in flight both ways
			id, _ := l.client.OpenStream(l.now, PriorityNormal)
			l.client.Write(l.now, id, make([]byte, 3000*i+1))
		}
		l.exchange()
		for i, p := range [][]byte{one, two, one} {
			var b [wire.SessionPayloadSize]byte
			copy(b[:], p)
			for _, s := range []*Session{l.client, l.server} {
				if s.state == stateOpen || s.state == stateClosing {
					s.accept(l.now, 0, s.arrived.largest+1+uint64(i%2), b[:])
				}
			}
		}
		for _, s := range []*Session{l.client, l.server} {
			held := 0
			for _, st := range s.streams.slots {
				if st != nil {
					held += len(st.in.buf.b)
				}
			}
			if held > 4*firstSessionWindow {
				t.Errorf("%d bytes held", held)
			}
			after(t, s)
		}
	})
}

// FuzzHello gives an acceptor any HELLO, and a real one with a byte changed.
func FuzzHello(f *testing.F) {
	var counts trace.Counts
	static := testKey(f)
	client, err := Dial(0, Config{}, static.Public(), prng.FromUint64(1), &counts)
	if err != nil {
		f.Fatal(err)
	}
	hello := client.FirstFlight()
	f.Add(hello[:wire.HelloHeadSize(1)], uint16(1), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, mask byte) {
		a := NewAcceptor(Config{}, prng.FromUint64(2))
		if s, err := a.Accept(0, 0, static, b, &counts); err == nil {
			t.Errorf("a HELLO of %d bytes made session %d", len(b), s.LocalID())
		}
		bad := bytes.Clone(hello)
		bad[int(at)%len(bad)] ^= mask // a KEM or version that is not known is an error, too
		if _, err := a.Accept(0, 0, static, bad, &counts); (err == nil) != (mask == 0) {
			t.Errorf("byte %d changed by %#x: %v", at, mask, err)
		}
	})
}

// FuzzReply gives a client any REPLY.
func FuzzReply(f *testing.F) {
	f.Add(make([]byte, 1120+40))
	f.Fuzz(func(t *testing.T, b []byte) {
		var counts trace.Counts
		client, err := Dial(0, Config{}, testKey(t).Public(), prng.FromUint64(1), &counts)
		if err != nil {
			t.Fatal(err)
		}
		client.AddPath(0, 0)
		client.FirstFlight()
		if client.handleReply(0, 0, b) || client.Established() {
			t.Error("a REPLY of nobody was taken")
		}
		var p [wire.SessionPacketSize]byte
		copy(p[wire.SessionHeaderSize:], b)
		copy(p[:], []byte{byte(wire.SessionReply), byte(client.localID >> 24), byte(client.localID >> 16), byte(client.localID >> 8), byte(client.localID), 0, 1})
		client.HandlePacket(0, 0, p[:])
		after(t, client)
	})
}

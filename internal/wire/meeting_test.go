package wire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestMeetingPacketBytes(t *testing.T) {
	id, call := MeetingID(bytes.Repeat([]byte{0xaa}, 32)), CallID(bytes.Repeat([]byte{0xcc}, 16))
	aa, cc := strings.Repeat("aa", 32), strings.Repeat("cc", 16)
	for _, c := range []struct {
		m   MeetingPacket
		hex string
	}{
		{MeetingPacket{Kind: SessionMeetListen, Secret: MeetingSecret(id)}, "08" + aa},
		{MeetingPacket{Kind: SessionMeetCall, Meeting: id, Call: call}, "09" + aa + cc},
		{MeetingPacket{Kind: SessionMeetAnswer, Meeting: id, Call: call}, "0a" + aa + cc},
		{MeetingPacket{Kind: SessionMeetJoined}, "0b"},
		{MeetingPacket{Kind: SessionMeetRefused}, "0c"},
	} {
		b := bytes.Repeat([]byte{9}, SessionPacketSize)
		c.m.Put(b)
		used := len(c.hex) / 2
		if got := hex.EncodeToString(b[:used]); got != c.hex || !IsZero(b[used:]) {
			t.Errorf("%+v is %s, then zero: %v", c.m, got, IsZero(b[used:]))
		}
		if got, ok := ParseMeetingPacket(b); !ok || got != c.m {
			t.Errorf("%s reads as %+v", c.hex, got)
		}
		for n := range b { // at every prefix
			if _, ok := ParseMeetingPacket(b[:n]); ok {
				t.Fatalf("%d bytes of %s accepted", n, c.hex)
			}
		}
		for i := used; i < len(b); i++ { // and with a mark behind
			b[i] = 1
			if _, ok := ParseMeetingPacket(b); ok {
				t.Fatalf("byte %d after %s accepted", i, c.hex)
			}
			b[i] = 0
		}
	}
	for _, kind := range []SessionKind{0, 7, 13, 255} {
		b := make([]byte, SessionPacketSize)
		b[0] = byte(kind)
		if _, ok := ParseMeetingPacket(b); ok || kind.Meeting() {
			t.Errorf("kind %d is a meeting packet", kind)
		}
	}
}

func FuzzMeetingPacket(f *testing.F) {
	for k := SessionMeetListen; k <= SessionMeetRefused; k++ {
		b := make([]byte, SessionPacketSize)
		(&MeetingPacket{Kind: k}).Put(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := ParseMeetingPacket(b)
		if !ok {
			return
		}
		again := make([]byte, SessionPacketSize)
		m.Put(again)
		if !bytes.Equal(b, again) {
			t.Errorf("%x encodes again as %x", b, again)
		}
	})
}

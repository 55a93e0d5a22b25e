package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

func TestCellHeaderBytes(t *testing.T) {
	b := make([]byte, LinkPayloadSize)
	PutCellHeader(b, FrameForward, 0x01020304, 0xa1a2a3a4)
	if got := hex.EncodeToString(b[:CellOffset+1]); got != "1101020304a1a2a3a400" {
		t.Errorf("cell header is %s", got)
	}
	if FrameRouteID(b) != 0x01020304 || CellCounter(b) != 0xa1a2a3a4 {
		t.Error("cell header does not read back")
	}
	PutFrameHeader(b, FrameBack, 5)
	if got := hex.EncodeToString(b[:6]); got != "1200000005a1" {
		t.Errorf("frame header is %s", got)
	}
	for p := range MaxHops {
		if len(CellLayer(b, p)) != LayerSize(p) || !CellTailZero(b, p) {
			t.Errorf("position %d: layer of %d bytes", p, len(CellLayer(b, p)))
		}
		for i := CellOffset + LayerSize(p); i < LinkPayloadSize; i++ {
			b[i] = 1
			if CellTailZero(b, p) {
				t.Errorf("position %d: byte %d set after the layer was not seen", p, i)
			}
			b[i] = 0
		}
	}
}

func TestLayerHeaderBytes(t *testing.T) {
	for _, c := range []struct {
		command byte
		delay   time.Duration
		hex     string
	}{
		{byte(CommandRelay), 0, "01000000"},
		{byte(CommandRelay | CommandClose), 10 * time.Millisecond, "81002710"},
		{byte(BackLoop), LayerDelayMax, "44ffffff"},
	} {
		var b [4]byte
		PutLayerHeader(b[:], c.command, c.delay+999*time.Nanosecond)
		command, delay := ParseLayerHeader(b[:])
		if hex.EncodeToString(b[:]) != c.hex || command != c.command || delay != c.delay {
			t.Errorf("%x %v encodes as %x, reads as %x %v", c.command, c.delay, b, command, delay)
		}
	}
}

func TestNackAndEchoHaveOneEncoding(t *testing.T) {
	b := make([]byte, 40)
	PutNack(b, NackLinkGone, 0x01020304)
	if got := hex.EncodeToString(b[:6]); got != "020102030400" {
		t.Errorf("NACK is %s", got)
	}
	if reason, counter, ok := ParseNack(b); !ok || reason != NackLinkGone || counter != 0x01020304 {
		t.Error("NACK does not read back")
	}
	for n := range NackSize {
		if _, _, ok := ParseNack(b[:n]); ok {
			t.Errorf("NACK of %d bytes was read", n)
		}
	}
	b[39] = 1
	if _, _, ok := ParseNack(b); ok {
		t.Error("NACK with a bit set after it was read")
	}
	b[0], b[39] = 6, 0
	if _, _, ok := ParseNack(b); ok {
		t.Error("NACK of an unknown reason was read")
	}
	if echo, ok := ParseEcho([]byte{1, 2, 3, 4, 5, 6, 7, 8, 0}); !ok || echo != 0x0102030405060708 {
		t.Errorf("echo reads as %x", echo)
	}
	if _, ok := ParseEcho([]byte{1, 2, 3, 4, 5, 6, 7, 8, 1}); ok {
		t.Error("echo with a bit set after it was read")
	}
	if _, ok := ParseEcho(make([]byte, 7)); ok {
		t.Error("echo of 7 bytes was read")
	}
}

func TestIsZeroSeesEveryByte(t *testing.T) {
	for n := range 40 {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Fatalf("%d zeros are not zero", n)
		}
		for i := range b {
			b[i] = 0x80
			if IsZero(b) {
				t.Errorf("byte %d of %d was not seen", i, n)
			}
			b[i] = 0
		}
	}
}

func TestMixDelays(t *testing.T) {
	for l, want := range []time.Duration{0, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond} {
		if got := Level(l).MixDelay(); got != want {
			t.Errorf("%v mixes with %v", Level(l), got)
		}
	}
}

func FuzzNack(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 9, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		reason, counter, ok := ParseNack(b)
		if !ok {
			return
		}
		again := make([]byte, len(b))
		PutNack(again, reason, counter)
		if !bytes.Equal(again, b) {
			t.Errorf("%x encodes again as %x", b, again)
		}
	})
}

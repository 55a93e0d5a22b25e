package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSetupSizes(t *testing.T) {
	if SetupStepSize != 1200 || SetupHeaderSize != 7264 || SetupPayloadSize != 2814 || SetupSize != 11214 || ShardSize != 1246 {
		t.Fatal(SetupStepSize, SetupHeaderSize, SetupPayloadSize, SetupSize, ShardSize)
	}
}

func TestShardHeader(t *testing.T) {
	b := make([]byte, LinkPayloadSize)
	PutShardHeader(b, 0x01020304, 11)
	if got := hex.EncodeToString(b[:7]); got != "10010203040b00" {
		t.Errorf("shard header is %s", got)
	}
	if i, ok := ShardIndex(b); i != 11 || !ok {
		t.Error("shard index does not read back")
	}
	b[5] = TrainFrames
	if _, ok := ShardIndex(b); ok {
		t.Error("a thirteenth shard was accepted")
	}
}

func testRouting() Routing {
	return Routing{Position: 2, Suite: 1, Level: Standard, TTL: 600 * time.Second, BackMean: 10 * time.Millisecond,
		SetupDelay: 0x010203 * time.Microsecond, ForwardStart: 0x0a0b0c0d, NextRoute: 0x11121314, Next: NodeID{0xee, 31: 0xff}}
}

func TestRoutingBytes(t *testing.T) {
	r := testRouting()
	got := hex.EncodeToString(r.Append(nil))
	want := "00020101" + "0258" + "00002710" + "010203" + "0a0b0c0d" + "11121314" +
		"ee" + hex.EncodeToString(make([]byte, 30)) + "ff" + hex.EncodeToString(make([]byte, 11))
	if got != want {
		t.Errorf("routing is\n%s, want\n%s", got, want)
	}
	for n := range SetupRoutingSize {
		if _, ok := ParseRouting(make([]byte, n)); ok {
			t.Errorf("routing of %d bytes was read", n)
		}
	}
}

func TestRoutingRefusesWhatAppendDoesNotWrite(t *testing.T) {
	good := testRouting()
	for name, spoil := range map[string]func(r *Routing){
		"a position beyond the route": func(r *Routing) { r.Position = MaxHops - 1 },
		"an unknown level":            func(r *Routing) { r.Level = numLevels },
		"no time to live":             func(r *Routing) { r.TTL = 0 },
		"no counter":                  func(r *Routing) { r.ForwardStart = 0 },
		"a counter out of range":      func(r *Routing) { r.ForwardStart = CounterStartMax },
		"a last hop with a next":      func(r *Routing) { r.Last, r.SetupDelay = true, 0 },
		"a last hop with a delay":     func(r *Routing) { r.Last, r.NextRoute, r.Next = true, 0, NodeID{} },
	} {
		r := good
		spoil(&r)
		if _, ok := ParseRouting(r.Append(nil)); ok {
			t.Errorf("routing with %s was read", name)
		}
	}
	for name, flags := range map[string]byte{"a profile at a hop that is not the last": 2, "an unknown flag": 8, "an unknown profile": 7} {
		b := good.Append(nil)
		if b[0] = flags; flags&1 != 0 {
			b = (&Routing{Last: true, TTL: time.Second, ForwardStart: 1}).Append(nil)
			b[0] = flags
		}
		if _, ok := ParseRouting(b); ok {
			t.Errorf("routing with %s was read", name)
		}
	}
	for p := ProfileFull; p < numProfiles; p++ {
		last := Routing{Last: true, Profile: p, TTL: time.Second, ForwardStart: 1}
		if r, ok := ParseRouting(last.Append(nil)); !ok || r != last {
			t.Errorf("profile %d reads back as %+v", p, r)
		}
	}
	b := good.Append(nil)
	b[0] = 0x80
	if _, ok := ParseRouting(b); ok {
		t.Error("routing with an unknown flag was read")
	}
	b = good.Append(nil)
	b[6] = 0xff
	if _, ok := ParseRouting(b); ok {
		t.Error("routing with an hour of delay was read")
	}
	last := Routing{Last: true, Position: MaxHops - 1, TTL: time.Second, ForwardStart: 1}
	if r, ok := ParseRouting(last.Append(nil)); !ok || r != last {
		t.Error("the routing of a seventh hop was refused")
	}
}

func TestRoutingPanicsOnItsOwnMistakes(t *testing.T) {
	r := testRouting()
	r.TTL = time.Millisecond
	defer func() {
		if recover() == nil {
			t.Error("a time to live of 1 ms was encoded")
		}
	}()
	r.Append(nil)
}

func TestRoutingReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Routing{
			Position:     rapid.Uint8Range(0, MaxHops-2).Draw(t, "position"),
			Suite:        rapid.Uint8().Draw(t, "suite"),
			Level:        Level(rapid.Uint8Range(0, uint8(Extreme)).Draw(t, "level")),
			TTL:          time.Duration(rapid.Uint16Range(1, 65535).Draw(t, "ttl")) * time.Second,
			BackMean:     time.Duration(rapid.Uint32Range(0, 200_000).Draw(t, "back")) * time.Microsecond,
			SetupDelay:   time.Duration(rapid.Uint32Range(0, 1<<24-1).Draw(t, "delay")) * time.Microsecond,
			ForwardStart: rapid.Uint32Range(1, CounterStartMax-1).Draw(t, "start"),
			NextRoute:    rapid.Uint32().Draw(t, "route"),
			Next:         NodeID(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "next")),
		}
		if got, ok := ParseRouting(r.Append(nil)); !ok || got != r {
			t.Fatalf("%+v reads back as %+v", r, got)
		}
	})
}

func TestFirstFlight(t *testing.T) {
	b := bytes.Repeat([]byte{7}, SetupPayloadSize)
	for _, n := range []int{0, 1, 100, MaxFirstFlight} {
		first := bytes.Repeat([]byte{9}, n)
		PutFirstFlight(b, first)
		if got, ok := ParseFirstFlight(b); !ok || !bytes.Equal(got, first) {
			t.Errorf("first flight of %d bytes reads back as %d", n, len(got))
		}
	}
	PutFirstFlight(b, []byte{1})
	b[SetupPayloadSize-1] = 1
	if _, ok := ParseFirstFlight(b); ok {
		t.Error("a bit set after the first flight was not seen")
	}
	b[0] = 0xff
	if _, ok := ParseFirstFlight(b); ok {
		t.Error("a first flight longer than its room was read")
	}
	if _, ok := ParseFirstFlight(b[1:]); ok {
		t.Error("δ of another size was read")
	}
	defer func() {
		if recover() == nil {
			t.Error("a first flight that does not fit was written")
		}
	}()
	PutFirstFlight(b, make([]byte, MaxFirstFlight+1))
}

func FuzzRouting(f *testing.F) {
	r := testRouting()
	f.Add(r.Append(nil))
	last := Routing{Last: true, Position: 6, TTL: time.Second, ForwardStart: 1}
	f.Add(last.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := ParseRouting(b); ok && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%x encodes again as %x", b, r.Append(nil))
		}
	})
}

func FuzzFirstFlight(f *testing.F) {
	f.Add([]byte{0, 3, 1, 2, 3}, 10)
	f.Fuzz(func(t *testing.T, head []byte, _ int) {
		b := make([]byte, SetupPayloadSize)
		copy(b, head)
		if first, ok := ParseFirstFlight(b); ok {
			again := make([]byte, SetupPayloadSize)
			PutFirstFlight(again, first)
			if !bytes.Equal(again, b) {
				t.Errorf("%x encodes again as %x", b, again)
			}
		}
	})
}

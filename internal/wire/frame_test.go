package wire

import "testing"

// The session packet follows from the datagram and the greatest number of
// hops; this is the derivation of docs/protocol.md, section 2.
func TestSizesFollowFromTheDatagram(t *testing.T) {
	if LinkPayloadSize != 1252 || MaxLayerSize != 1243 || SessionPacketSize != 1079 || SessionPayloadSize != 1054 {
		t.Fatalf("sizes are %d %d %d %d", LinkPayloadSize, MaxLayerSize, SessionPacketSize, SessionPayloadSize)
	}
	if left := LayerSize(MaxHops-1) - TagSize - LayerHeaderSize; left != SessionPacketSize {
		t.Errorf("the seventh layer holds %d bytes", left)
	}
}

func TestQueueKeepsOrderAndPoolReuses(t *testing.T) {
	var p Pool
	var q Queue
	for i := range 100 {
		f := p.Get()
		f.B[0] = byte(i)
		q.Push(f)
	}
	for i := range 100 {
		f := q.Pop()
		if f == nil || f.B[0] != byte(i) {
			t.Fatalf("frame %d out of order", i)
		}
		p.Put(f)
	}
	if q.Pop() != nil || q.Len != 0 || p.Out != 0 {
		t.Errorf("queue %d, pool %d out", q.Len, p.Out)
	}
	if n := testing.AllocsPerRun(100, func() { q.Push(p.Get()); p.Put(q.Pop()) }); n != 0 {
		t.Errorf("%.1f allocations for a frame from the pool", n)
	}
}

func TestLevels(t *testing.T) {
	for l := Fast; l < numLevels; l++ {
		back, ok := ParseLevel(l.String())
		if !ok || back != l || !l.Valid() || l.Hops() > MaxHops || l.Hops() < MinHops {
			t.Errorf("level %v does not hold together", l)
		}
	}
	for p := ProfileFull; p < numProfiles; p++ {
		if back, ok := ParseProfile(p.String()); !ok || back != p {
			t.Errorf("profile %v does not hold together", p)
		}
	}
	if _, ok := ParseProfile("Low"); ok || Profile(3).String() != "unknown" {
		t.Error("an unknown profile was accepted")
	}
	if _, ok := ParseLevel("Fast"); ok || Level(9).Valid() || Level(9).String() != "unknown" {
		t.Error("an unknown level was accepted")
	}
}

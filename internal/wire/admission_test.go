package wire

import (
	"bytes"
	"testing"
)

// admissionFrames is one frame of each kind with every field set.
func admissionFrames() map[AdmissionKind]*Frame {
	id := [16]byte{1, 2, 3}
	init := SessionInit{ClientID: id, Nonce: [16]byte{9}, Version: 3, Level: High, Proof: [16]byte{7, 15: 8}, Worked: true, Work: 1 << 63, Passed: true, Pass: somePass()}
	ready := SessionReady{Nonce: [16]byte{9}, Version: 3, Lifetime: 600, Token: Token{5, 63: 6}}
	refused := SessionRefused{Nonce: [16]byte{9}, Reason: RefusedWork, Challenge: Challenge{Bits: 14, Seed: [16]byte{3, 15: 4}}}
	out := map[AdmissionKind]*Frame{}
	for k, put := range map[AdmissionKind]func(*Frame){
		AdmissionInit: init.Put, AdmissionReady: ready.Put, AdmissionRefused: refused.Put,
		AdmissionTerminate: func(f *Frame) { PutTerminate(f, &Token{1, 63: 2}) },
	} {
		f := &Frame{}
		f.B[700] = 0xff // what a pool's frame may hold
		put(f)
		out[k] = f
	}
	return out
}

func reencode(m Admission) *Frame {
	f := &Frame{}
	switch m.Kind {
	case AdmissionInit:
		m.Init.Put(f)
	case AdmissionReady:
		m.Ready.Put(f)
	case AdmissionRefused:
		m.Refused.Put(f)
	case AdmissionTerminate:
		PutTerminate(f, &m.Token)
	}
	return f
}

func TestAdmissionFramesHaveOneEncoding(t *testing.T) {
	for kind, f := range admissionFrames() {
		m, ok := ParseAdmission(f.B[:])
		if !ok || m.Kind != kind {
			t.Fatalf("kind %d does not parse", kind)
		}
		if !bytes.Equal(reencode(m).B[:], f.B[:]) {
			t.Errorf("kind %d: re-encoding differs", kind)
		}
		for _, at := range []int{1, 4, LinkPayloadSize - 1} {
			f.B[at] ^= 1
			if _, ok := ParseAdmission(f.B[:]); ok {
				t.Errorf("kind %d: a stray bit at %d was accepted", kind, at)
			}
			f.B[at] ^= 1
		}
		if _, ok := ParseAdmission(f.B[:len(f.B)-1]); ok {
			t.Errorf("kind %d: a short frame was accepted", kind)
		}
	}
	if RefusedRate.String() != "rate limit" || Refusal(99).String() != "unknown" {
		t.Error("refusals do not name themselves")
	}
}

// A frame of version 1 has no work, one of version 2 no pass, and one of version 3
// without them differs by its number only; a challenge stands in one refusal only.
func TestAdmissionVersions(t *testing.T) {
	var a, b Frame
	for later := range uint8(2) {
		one, two := SessionInit{Version: 1, Nonce: [16]byte{5}}, SessionInit{Version: 2 + later, Nonce: [16]byte{5}}
		one.Put(&a)
		two.Put(&b)
		differ := 0
		for i := range a.B {
			if a.B[i] != b.B[i] {
				differ++
			}
		}
		if differ != 1 {
			t.Errorf("%d bytes differ between the versions 1 and %d", differ, 2+later)
		}
	}
	for _, m := range []SessionInit{{Version: 1, Worked: true}, {Version: 2, Passed: true, Pass: somePass()}, {Version: 1, Passed: true, Pass: somePass()}} {
		m.Put(&b)
		if _, ok := ParseAdmission(b.B[:]); ok {
			t.Errorf("version %d with work %v and a pass %v was accepted", m.Version, m.Worked, m.Passed)
		}
	}
	(&SessionRefused{Reason: RefusedRate, Challenge: Challenge{Bits: 9}}).Put(&a)
	if m, ok := ParseAdmission(a.B[:]); !ok || m.Refused.Challenge.Bits != 0 {
		t.Errorf("a refusal for the rate: %+v, %v", m.Refused, ok)
	}
}

func FuzzParseAdmission(f *testing.F) {
	for _, frame := range admissionFrames() {
		f.Add(frame.B[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := ParseAdmission(b); ok && !bytes.Equal(reencode(m).B[:], b) {
			t.Error("re-encoding differs from what was accepted")
		}
	})
}

func TestTargets(t *testing.T) {
	for _, c := range []Target{
		{TCP, "example.com", 443}, {UDP, "192.0.2.1", 53}, {TCP, "2001:db8::1", 80}, {TCP, "a_b-c.d", 1},
	} {
		b := AppendTarget(nil, c)
		for i := range b {
			if _, n, ok := ParseTarget(b[:i]); n != 0 || !ok {
				t.Errorf("%v: prefix of %d bytes gave %d %v", c, i, n, ok)
			}
		}
		got, n, ok := ParseTarget(append(b, "GET"...))
		if got != c || n != len(b) || !ok {
			t.Errorf("%v came back as %v (%d, %v)", c, got, n, ok)
		}
	}
	for _, bad := range [][]byte{{0}, {4, 1, 'a', 0, 1}, {0, 1, 'a', 0, 1}, {1, 0, 0, 0}, {1, 254}, {1, 3, 'a', ' ', 'b', 0, 1}, {1, 4, 'f', 'e', ':', '%', 0, 1}} {
		if _, _, ok := ParseTarget(bad); ok {
			t.Errorf("%v was accepted", bad)
		}
	}
	if StatusRefused.String() != "connection refused" || Status(77).String() != "unknown status" {
		t.Error("statuses do not name themselves")
	}
}

func TestDatagramTarget(t *testing.T) {
	host, port, data, ok := ParseDatagramTarget(append(AppendDatagramTarget(nil, "::1", 53), "query"...))
	if host != "::1" || port != 53 || string(data) != "query" || !ok {
		t.Errorf("got %s %d %q %v", host, port, data, ok)
	}
	if _, _, _, ok := ParseDatagramTarget([]byte{3, 'a'}); ok {
		t.Error("a short header was accepted")
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add(AppendTarget(nil, Target{TCP, "example.com", 443}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, n, ok := ParseTarget(b)
		if ok && n > 0 && !bytes.Equal(AppendTarget(nil, got), b[:n]) {
			t.Error("re-encoding differs from what was accepted")
		}
	})
}

package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func someTelemetry() Telemetry {
	return Telemetry{Flags: TelemetryOverloaded, StandsFor: 10, Millis: 0x0102030405, Span: 1000, Capacity: 100_000, Sent: 50_000,
		Came: 51_000, Dropped: 3, Refused: 2, Before: 500_000, Queue: 40,
		Classes: []TelemetryClass{{Place: 4, Routes: 48, Use: 70}, {Place: 6, Routes: 160, Use: 55}}}
}

func TestTelemetryBytes(t *testing.T) {
	want := "02" + "01" + "0a" + "0000000102030405" + "000003e8" + "000186a0" + "0000c350" + "0000c738" + "00000003" + "00000002" +
		"0007a120" + "0028" + "02" + "04003046" + "0600a037"
	m := someTelemetry()
	b := m.Append(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	again, n, err := ParseTelemetry(append(bytes.Clone(b), 7))
	if err != nil || n != len(b) || !bytes.Equal(again.Append(nil), b) || again.Load() != 0.5 {
		t.Errorf("read back %+v, %d bytes, %v", again, n, err)
	}
	for n := range b {
		if _, _, err := ParseTelemetry(b[:n]); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
}

func TestTelemetryIsBounded(t *testing.T) {
	for name, spoil := range map[string]func(*Telemetry){
		"an unknown flag":        func(m *Telemetry) { m.Flags = 1 << 7 },
		"it stands for nothing":  func(m *Telemetry) { m.StandsFor = 0 },
		"it stands for too many": func(m *Telemetry) { m.StandsFor = TelemetryStandsMax + 1 },
		"no time":                func(m *Telemetry) { m.Span = 0 },
		"a long time":            func(m *Telemetry) { m.Span = TelemetrySpanMax + 1 },
		"before 1970":            func(m *Telemetry) { m.Millis = -1 },
		"more drops than came":   func(m *Telemetry) { m.Dropped = m.Came + 1 },
		"single routes":          func(m *Telemetry) { m.Classes[0].Routes = 47 },
		"a fine use":             func(m *Telemetry) { m.Classes[0].Use = 71 },
		"a use above all":        func(m *Telemetry) { m.Classes[0].Use = 105 },
		"classes out of order":   func(m *Telemetry) { m.Classes[1].Place = 4 },
		"a class of no place":    func(m *Telemetry) { m.Classes[1].Place = CoverClasses },
	} {
		m := someTelemetry()
		spoil(&m)
		if _, _, err := ParseTelemetry(m.Append(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	m := Telemetry{StandsFor: 1, Span: 1}
	for i := range CoverClasses {
		m.Classes = append(m.Classes, TelemetryClass{Place: uint8(i)})
	}
	if b := m.Append(nil); len(b) != TelemetryMax {
		t.Errorf("the greatest has %d bytes, not %d", len(b), TelemetryMax)
	}
}

func FuzzTelemetry(f *testing.F) {
	m := someTelemetry()
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n, err := ParseTelemetry(b)
		if err == nil && !bytes.Equal(m.Append(nil), b[:n]) {
			t.Fatalf("%x has another encoding", b[:n])
		}
	})
}

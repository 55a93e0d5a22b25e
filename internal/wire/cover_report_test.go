package wire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func someReport() CoverReport {
	r := CoverReport{Window: 0x01020304, Floor: CoverTally{All: 7}}
	r.Above[9] = CoverTally{Real: 1, All: 0x10000000000, Uses: [coverUses]uint64{9: 2}}
	return r
}

func TestCoverReportBytes(t *testing.T) {
	word := func(s string) string { return strings.Repeat("0", 16-len(s)) + s }
	want := "01" + "01020304" + "02" +
		"00" + word("") + word("7") + strings.Repeat(word(""), 10) +
		"0a" + word("1") + word("10000000000") + strings.Repeat(word(""), 9) + word("2")
	r := someReport()
	b := r.Append(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if again, n, err := ParseCoverReport(append(bytes.Clone(b), 9)); err != nil || n != len(b) || again != r {
		t.Errorf("read back %+v, %d bytes, %v", again, n, err)
	}
	for n := range b {
		if _, _, err := ParseCoverReport(b[:n]); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
	second := coverReportHead + coverTallySize
	for name, spoil := range map[string]func(b []byte){
		"another version":           func(b []byte) { b[0]++ },
		"a place that is not":       func(b []byte) { b[second] = CoverClasses + 1 },
		"a place twice":             func(b []byte) { b[second] = 0 },
		"a tally of nothing":        func(b []byte) { b[coverReportHead+16] = 0 },
		"more content than cells":   func(b []byte) { b[coverReportHead+8] = 8 },
		"more cells than there are": func(b []byte) { b[second+16]++ },
	} {
		c := bytes.Clone(b)
		spoil(c)
		if _, _, err := ParseCoverReport(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

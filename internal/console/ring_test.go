package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRing: a day of samples is given in no more points than a chart draws, with the
// worst latency of each, and gaps where nothing ran.
func TestRing(t *testing.T) {
	r := &ring{}
	if s := r.last(ringLong); len(s.T) != 0 {
		t.Errorf("an empty ring has %d points", len(s.T))
	}
	for i := range int64(3 * ringSize) {
		p95 := float32(10)
		if i == int64(3*ringSize)-5 {
			p95 = 900
		}
		r.put(1000+i, sample{p95: p95, carried: 2, cover: -1, asked: 10, failed: 1})
	}
	s := r.last(ringLong)
	if len(s.T) > pointsMost || len(s.T) < pointsMost/2 || s.Step != 120 {
		t.Errorf("%d points of %d s", len(s.T), s.Step)
	}
	worst, n := float32(0), 0
	for i := range s.T {
		worst = max(worst, *s.P95[i])
		if s.Cover[i] != nil {
			n++
		}
		if *s.Carried[i] != 2 {
			t.Fatalf("point %d carried %v", i, *s.Carried[i])
		}
	}
	if worst != 900 || n != 0 {
		t.Errorf("worst latency %v, %d points of cover", worst, n)
	}
	if asked, failed := r.asked(); asked != 10*uint64(ringSize) || failed != uint64(ringSize) {
		t.Errorf("%d asked, %d failed", asked, failed)
	}
	if short := r.last(15 * time.Minute); len(short.T) != 90 || short.Step != 10 {
		t.Errorf("15 minutes are %d points of %d s", len(short.T), short.Step)
	}
	r.put(1000+3*int64(ringSize)+50, sample{p95: 1})
	s = r.last(15 * time.Minute)
	gaps := 0
	for _, v := range s.Carried {
		if v == nil {
			gaps++
		}
	}
	if gaps != 50 {
		t.Errorf("%d gaps", gaps)
	}
	r.put(1000+9*int64(ringSize), sample{p95: 1})
	if s = r.last(ringLong); len(s.T) != 1 {
		t.Errorf("after more than a day %d points are left", len(s.T))
	}
}

// TestMeasuredFigures: what is shown as measured is what the documents have.
func TestMeasuredFigures(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	doc := read("anonymity.md")
	for _, a := range measuredAnonymity {
		if row := fmt.Sprintf("| %s | 1 | %s | all | %s | %.2f (%.2f–%.2f) |", a.Level, a.Adversary, a.Attacker, a.AUC, a.Low, a.High); !strings.Contains(doc, row) {
			t.Errorf("docs/anonymity.md has no row %q", row)
		}
		if _, ok := words["attacker."+a.Attacker]; !ok {
			t.Errorf("attacker %q has no words", a.Attacker)
		}
	}
	doc = read("performance.md")
	c := measuredCost
	for _, s := range []string{
		fmt.Sprintf("a hop (%.2f µs), a set-up (%d µs)", c.Hop.Seconds()*1e6, c.Setup.Microseconds()), "(3,584 bytes", fmt.Sprintf("a second and session | %.2f, %.2f |", c.StreamIn, c.MixIn),
	} {
		if !strings.Contains(doc, s) {
			t.Errorf("docs/performance.md has no %q", s)
		}
	}
	if c.SessionBytes != 3584 {
		t.Errorf("a session takes %v bytes", c.SessionBytes)
	}
}

// TestAnEmptyHistoryHasItsColumns: a console that has just begun has no sample yet, and
// a script that is given null for a column draws no chart, then or later.
func TestAnEmptyHistoryHasItsColumns(t *testing.T) {
	for who, s := range map[string]series{"the owner": (&ring{}).last(ringLong), "others": (&ring{}).last(ringLong).withoutOwn()} {
		b, err := json.Marshal(s)
		if err != nil || bytes.Contains(b, []byte("null")) {
			t.Errorf("%s: %s %v", who, b, err)
		}
	}
}

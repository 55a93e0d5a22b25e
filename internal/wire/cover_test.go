package wire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func somePlan() CoverPlan {
	r := [CoverClasses]uint16{5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
	return CoverPlan{Epoch: 0x01020304, Noise: [3]uint8{10, 20, 30}, Regions: []CoverRegion{
		{Name: "ap", Weight: 512, Rates: r}, {Name: "eu", Weight: CoverWeightOne, Rates: r}}}
}

func TestCoverPlanBytes(t *testing.T) {
	rates := "0005000a0014003200640" + "0c801f403e807d01388"
	want := "01" + "01020304" + "0a141e" + "02" + "026170" + "0200" + rates + "026575" + "0100" + rates
	p := somePlan()
	b := p.Append(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	again, n, err := ParseCoverPlan(append(bytes.Clone(b), 9))
	if err != nil || n != len(b) || !bytes.Equal(again.Append(nil), b) {
		t.Errorf("read back %+v, %d bytes, %v", again, n, err)
	}
	if p.Region("eu") != &p.Regions[1] || p.Region("us") != nil {
		t.Error("a region is not found by its name")
	}
	for n := range b {
		if _, _, err := ParseCoverPlan(b[:n]); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
}

func TestCoverPlanHasOneEncoding(t *testing.T) {
	for name, spoil := range map[string]func(*CoverPlan){
		"regions out of order": func(p *CoverPlan) { p.Regions[0].Name = "us" },
		"a region twice":       func(p *CoverPlan) { p.Regions[0].Name = "eu" },
		"no region":            func(p *CoverPlan) { p.Regions = nil },
		"no name":              func(p *CoverPlan) { p.Regions[0].Name = "" },
		"a long name":          func(p *CoverPlan) { p.Regions[0].Name = strings.Repeat("a", 65) },
		"a capital letter":     func(p *CoverPlan) { p.Regions[0].Name = "aP" },
		"too many regions": func(p *CoverPlan) {
			p.Regions = nil
			for i := range CoverRegionsMax + 1 {
				p.Regions = append(p.Regions, CoverRegion{Name: "r" + string(rune('a'+i/26)) + string(rune('a'+i%26))})
			}
		},
	} {
		p := somePlan()
		spoil(&p)
		if _, _, err := ParseCoverPlan(p.Append(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p := somePlan()
	b := p.Append(nil)
	b[0]++
	if _, _, err := ParseCoverPlan(b); err == nil {
		t.Error("another version is accepted")
	}
}

func TestAdjustRateBytes(t *testing.T) {
	a := AdjustRate{Epoch: 7, Region: "eu", Class: 200, Rate: 300}
	b := a.Append(nil)
	if got, want := hex.EncodeToString(b), "01"+"00000007"+"026575"+"00c8"+"012c"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if again, n, err := ParseAdjustRate(append(b, 0)); err != nil || n != len(b) || again != a {
		t.Errorf("read back %+v, %d bytes, %v", again, n, err)
	}
	for n := range b {
		if _, _, err := ParseAdjustRate(b[:n]); err == nil {
			t.Fatalf("%d bytes accepted", n)
		}
	}
}

func FuzzCoverPlan(f *testing.F) {
	p := somePlan()
	f.Add(p.Append(nil))
	f.Add((&AdjustRate{Region: "eu"}).Append(nil))
	f.Add((&CoverReport{Floor: CoverTally{All: 1}, Above: [CoverClasses]CoverTally{9: {Real: 1, All: 2}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, n, err := ParseCoverPlan(b); err == nil && !bytes.Equal(p.Append(nil), b[:n]) {
			t.Error("a plan has two encodings")
		}
		if a, n, err := ParseAdjustRate(b); err == nil && !bytes.Equal(a.Append(nil), b[:n]) {
			t.Error("an adjustment has two encodings")
		}
		if r, n, err := ParseCoverReport(b); err == nil && !bytes.Equal(r.Append(nil), b[:n]) {
			t.Error("a report has two encodings")
		}
	})
}

package directory

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// testBulletin says something of the first two nodes of d, in the round of
// testWall.
func testBulletin(d *Document) *Bulletin {
	return &Bulletin{
		Network: testNetwork, Document: d.Hash(), Round: RoundAt(testWall),
		Nodes: []NodeState{
			{ShortOf(d.Nodes[0].ID), State{Flags: Overloaded, Score: 90, Load: 9, Queue: 55}},
			{ShortOf(d.Nodes[1].ID), State{Flags: Draining | Distrusted, Score: ScoreMax}},
		},
		Delays: []Delay{{"eu", "eu", 12}},
		Plan:   testPlan(7),
	}
}

func testPlan(epoch uint32) *wire.CoverPlan {
	return &wire.CoverPlan{Epoch: epoch, Regions: []wire.CoverRegion{{Name: "eu", Weight: wire.CoverWeightOne}}}
}

func signedBulletin(t testing.TB, signer uint64, m *Bulletin) []byte {
	t.Helper()
	b, err := SignBulletin(testSigner(t, signer), m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testReport is a report of the node that testDescriptor describes.
func testReport(t testing.TB, i int) *Report {
	t.Helper()
	return &Report{Network: testNetwork, Node: NodeID(testSigner(t, uint64(i)).Public()), Time: testWall, Draining: true, Load: 4, Queue: 15,
		Delays: []RegionDelay{{"ap", 180}, {"eu", 20}}, Cover: &wire.CoverReport{Window: 5, Floor: wire.CoverTally{Real: 1, All: 3}}}
}

func signedReport(t testing.TB, i int, r *Report) []byte {
	t.Helper()
	b, err := SignReport(testSigner(t, uint64(i)), r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBulletinBytes(t *testing.T) {
	m := &Bulletin{
		Network: "n", Round: 3,
		Nodes:  []NodeState{{2, State{Flags: Overloaded, Score: 100, Load: 9, Queue: 50}}},
		Delays: []Delay{{"a", "b", 80}},
	}
	want := "a6" + "0101" + "02616e" + "035820" + hex.EncodeToString(make([]byte, 32)) + "0403" +
		"0581" + "85" + "02" + "01" + "1864" + "09" + "1832" +
		"0681" + "83" + "6161" + "6162" + "1850"
	if got := hex.EncodeToString(m.body()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	back, err := parseBulletinBody(m.body())
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("parsed as %+v, %v", back, err)
	}
	m.Plan = testPlan(7)
	plan := m.Plan.Append(nil)
	want = "a7" + want[2:] + "0758" + hex.EncodeToString([]byte{byte(len(plan))}) + hex.EncodeToString(plan)
	if got := hex.EncodeToString(m.body()); got != want {
		t.Errorf("with a plan\ngot  %s\nwant %s", got, want)
	}
	if back, err = parseBulletinBody(m.body()); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("with a plan parsed as %+v, %v", back, err)
	}
	for _, bad := range []*bulletinWire{{Plan: append(plan, 0)}, {Plan: plan[1:]}} {
		bad.Format, bad.Network, bad.Document = Format, "n", make([]byte, seal.HashSize)
		if _, err := parseBulletinBody(marshal(bad)); err == nil {
			t.Errorf("a plan of %d bytes is taken", len(bad.Plan))
		}
	}
}

// No prefix of a bulletin or a report parses, and neither does one with more
// bytes.
func TestBulletinAndReportCutOff(t *testing.T) {
	d := testDocument(t, testNodes(1, 1))
	bulletin, report := signedBulletin(t, 1000, testBulletin(d)), signedReport(t, 1, testReport(t, 1))
	for i := range bulletin {
		if _, _, err := parseBulletin(bulletin[:i]); err == nil {
			t.Fatalf("%d bytes of a bulletin parse", i)
		}
	}
	for i := range report {
		if _, _, err := parseReport(report[:i]); err == nil {
			t.Fatalf("%d bytes of a report parse", i)
		}
	}
	if _, _, err := parseBulletin(append(bulletin, 0)); err == nil {
		t.Error("a byte more parses")
	}
	if _, _, err := parseReport(append(report, 0)); err == nil {
		t.Error("a byte more parses")
	}
}

func TestBundle(t *testing.T) {
	all := [][]byte{{1}, {2, 3}}
	b := EncodeBundle(all)
	if got, err := ParseBundle(b); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseBundle(b[:i]); err == nil {
			t.Errorf("%d bytes of a bundle parse", i)
		}
	}
	if _, err := ParseBundle(EncodeBundle(make([][]byte, MaxAuthorities+1))); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
}

func TestBulletinRefused(t *testing.T) {
	d := testDocument(t, testNodes(1, 1))
	for name, change := range map[string]func(*Bulletin){
		"no network":        func(m *Bulletin) { m.Network = "" },
		"round":             func(m *Bulletin) { m.Round = 1 << 41 },
		"twice":             func(m *Bulletin) { m.Nodes[1].Node = m.Nodes[0].Node },
		"order":             func(m *Bulletin) { slices.Reverse(m.Nodes) },
		"flags":             func(m *Bulletin) { m.Nodes[0].Flags = 8 },
		"score":             func(m *Bulletin) { m.Nodes[0].Score = 101 },
		"load":              func(m *Bulletin) { m.Nodes[0].Load = 11 },
		"queue":             func(m *Bulletin) { m.Nodes[0].Queue = 60_005 },
		"queue in ms":       func(m *Bulletin) { m.Nodes[0].Queue = 52 },
		"nothing said":      func(m *Bulletin) { m.Nodes[0].State = quiet },
		"delay":             func(m *Bulletin) { m.Delays[0].Millis = DelayMax + 1 },
		"delay's order":     func(m *Bulletin) { m.Delays = []Delay{{"a", "b", 1}, {"a", "a", 1}} },
		"delay twice":       func(m *Bulletin) { m.Delays = []Delay{{"a", "b", 1}, {"a", "b", 1}} },
		"delay's direction": func(m *Bulletin) { m.Delays = []Delay{{"b", "a", 1}} },
		"region":            func(m *Bulletin) { m.Delays[0].To = "EU" },
	} {
		m := testBulletin(d)
		change(m)
		if _, err := SignBulletin(testSigner(t, 1000), m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: is signed: %v", name, err)
		}
		if _, err := parseBulletinBody(m.body()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: is parsed: %v", name, err)
		}
	}
}

func TestReportTaken(t *testing.T) {
	a := testAuthorities(t, 1, 1, testDescriptor(t, 1, RoleMix, nil)).all[0]
	b := signedReport(t, 1, testReport(t, 1))
	if r, err := a.TakeReport(b, testWall); err != nil || !reflect.DeepEqual(r, testReport(t, 1)) {
		t.Errorf("%+v, %v", r, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		wall int64
		want error
	}{
		"of a node unknown here": {signedReport(t, 2, testReport(t, 2)), testWall, ErrRefused},
		"signed by another":      {signedReport(t, 2, testReport(t, 1)), testWall, ErrSignature},
		"long ago":               {b, testWall + hour + 1, ErrStale},
		"from the future":        {b, testWall - hour - 1, ErrStale},
	} {
		if _, err := a.TakeReport(c.b, c.wall); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, change := range map[string]func(*Report){
		"load":    func(r *Report) { r.Load = 11 },
		"queue":   func(r *Report) { r.Queue = 3 },
		"region":  func(r *Report) { r.Delays[0].Region = "A" },
		"order":   func(r *Report) { slices.Reverse(r.Delays) },
		"delay":   func(r *Report) { r.Delays[0].Millis = DelayMax + 1 },
		"network": func(r *Report) { r.Network = "" },
	} {
		r := testReport(t, 1)
		change(r)
		if _, err := SignReport(testSigner(t, 1), r); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: is signed: %v", name, err)
		}
		if _, _, err := parseReport(marshal(&signedWire{Body: r.body(), Signature: make([]byte, seal.SignatureSize)})); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: is parsed: %v", name, err)
		}
	}
}

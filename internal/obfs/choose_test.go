package obfs

import (
	"reflect"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// anything is a proposal of who means no good.
func anything(rng *prng.Stream) *wire.CoverPlan {
	r := wire.CoverRegion{Name: "eu", Weight: uint16(rng.Uint64())}
	for i := range r.Rates {
		r.Rates[i] = uint16(rng.Uint64())
	}
	return &wire.CoverPlan{Epoch: 1, Noise: [3]uint8{uint8(rng.Uint64()), 200, 0}, Regions: []wire.CoverRegion{{Name: "aa"}, r}}
}

// No number of authorities below the threshold moves a figure to where none of the
// others has it, or beyond the nominal one; where the others agree, none at all.
func TestCombineBearsLiars(t *testing.T) {
	rng := prng.FromUint64(1).Stream("liars")
	for range 500 {
		for _, test := range []struct{ honest, liars, need int }{{2, 1, 2}, {3, 2, 3}, {1, 1, 2}, {1, 2, 3}, {4, 2, 3}} {
			var said []*wire.CoverPlan
			rates := [2]uint16{uint16(100 * (2 + rng.Uint64N(2))), uint16(100 * (2 + rng.Uint64N(3)))} // of class 200
			for i := range test.honest {
				said = append(said, planOf(1, 200, rates[i%2]))
			}
			for range test.liars {
				said = append(said, anything(rng))
			}
			p := Combine(said, test.need)
			slices.Reverse(said)
			if again := Combine(said, test.need); !reflect.DeepEqual(p, again) {
				t.Fatal("the order of the proposals matters")
			}
			if p == nil || len(p.Regions) != 1 && test.liars < test.need {
				t.Fatalf("%+v of %+v", p, test)
			}
			least, most := uint16(200), max(rates[0], rates[1])
			if test.honest == 1 {
				most = rates[0]
			}
			if test.honest >= test.need && rates[0] == rates[1] {
				least = rates[0]
			}
			r := p.Region("eu")
			if r.Rates[5] < least || r.Rates[5] > most || !inBounds(&r.Rates) || r.Weight != wire.CoverWeightOne || p.Noise != [3]uint8{} {
				t.Fatalf("%+v: rates of class 200 %v became %+v", test, rates, p)
			}
		}
	}
	// Control: a threshold that lies has its way.
	if p := Combine([]*wire.CoverPlan{planOf(1, 200, 300), planOf(1, 200, 2000), planOf(1, 200, 1000)}, 2); p.Region("eu").Rates[5] != 1000 {
		t.Errorf("two of three say 1000 or more: %+v", p)
	}
}

// A plan is made once, when all have proposed it or half a minute before its epoch,
// and again for who comes in its middle.
func TestChooserWaits(t *testing.T) {
	const begin = 2 * wire.CoverEpochSeconds
	one, two := planOf(2, 200, 300), planOf(2, 200, 300)
	old := planOf(1, 200, 200)
	for _, test := range []struct {
		name string
		unix int64
		said []*wire.CoverPlan
		want uint32 // epoch; 0: none
	}{
		{"all three", begin - 110, []*wire.CoverPlan{one, two, one}, 2},
		{"two, and there is time", begin - 31, []*wire.CoverPlan{one, two, old}, 0},
		{"two, and there is none", begin - 30, []*wire.CoverPlan{one, two}, 2},
		{"one", begin - 10, []*wire.CoverPlan{one, old}, 0},
		{"in the middle of the epoch", begin + 500, []*wire.CoverPlan{one, two}, 2},
		{"an epoch late", begin + 900, []*wire.CoverPlan{one, two, one}, 0},
		{"an epoch early", begin - 901, []*wire.CoverPlan{one, two, one}, 0},
		{"nothing", begin, nil, 0},
	} {
		c := Chooser{Seats: 3, Need: 2}
		got := uint32(0)
		if p := c.Choose(test.unix, test.said); p != nil {
			got = p.Epoch
		}
		if got != test.want {
			t.Errorf("%s: the plan of epoch %d, want %d", test.name, got, test.want)
		}
		if c.Choose(test.unix, test.said) != nil {
			t.Errorf("%s: twice", test.name)
		}
	}
}

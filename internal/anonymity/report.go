package anonymity

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/lab/attack"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// Options say what a report covers. Zero fields are not allowed but for Progress.
type Options struct {
	Levels   []wire.Level
	Loads    []float64 // times the traffic of Kinds; gates of more than chance are of 1
	Seeds    int       // from 1 on
	Size     Size
	Progress func(string) // may be nil
}

// Quick is the size of the test gate: a minute of processor time for all levels.
func Quick() Options {
	return Options{Levels: []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme}, Loads: []float64{1}, Seeds: 1,
		Size: Size{Flows: 48, Length: 8 * time.Second}}
}

// Validate says what is wrong with options.
func (o *Options) Validate() error {
	const least = 16 // flows, four of each kind, with and without loss
	switch {
	case len(o.Levels) == 0:
		return errors.New("no level to attack")
	case len(o.Loads) == 0:
		return errors.New("no load to attack levels under")
	case slices.ContainsFunc(o.Loads, func(f float64) bool { return !(f >= loadMin && f <= loadMax) }):
		return fmt.Errorf("loads of %v; use %v to %v times the traffic", o.Loads, loadMin, loadMax)
	case o.Seeds < 1:
		return fmt.Errorf("%d seeds; use 1 or more", o.Seeds)
	case o.Size.Flows < least || o.Size.Flows > flowsMax:
		return fmt.Errorf("%d flows; use %d to %d", o.Size.Flows, least, flowsMax)
	case o.Size.Length < entropyFor+2*entropySettles:
		return fmt.Errorf("flows of %v; use %v or more", o.Size.Length, entropyFor+2*entropySettles)
	}
	return nil
}

// Bounds of a load: with less there is next to nothing to correlate in flows as short
// as these, with more the slots of the pinned levels carry nothing else.
const loadMin, loadMax = 0.1, 10.0

// flowsMax is what addresses and the names of flows in requests have room for.
const flowsMax = 4096

// Report is how well flows are told.
type Report struct {
	Size    Size      `json:"size"`
	Seeds   int       `json:"seeds"`
	Loads   []Load    `json:"loads"`
	Results []Result  `json:"results"`
	Gates   []Outcome `json:"gates"`
}

// Load is what a level carried, and what its mixes left unsaid.
type Load struct {
	Level  wire.Level `json:"-"`
	Name   string     `json:"level"`
	Factor float64    `json:"load"` // times the traffic of Kinds
	// Use is the share of real cells among those that clients sent.
	Use float64 `json:"use"`
	// MixBits is the entropy of which input an output of a mix is, PathBits that of
	// who sent what leaves the last mix of a path.
	MixBits  Entropy `json:"mix_bits"`
	PathBits Entropy `json:"path_bits"`
}

// Entropy sums up entropies of single cells.
type Entropy struct {
	Mean float64 `json:"mean"`
	P05  float64 `json:"p05"` // of 20 cells one has less
	Min  float64 `json:"min"`
}

// Result is what one attacker reaches against flows of a kind, "all" of them
// together, over all seeds.
type Result struct {
	Level    string  `json:"level"`
	Load     float64 `json:"load"`
	View     View    `json:"view"`
	Attacker string  `json:"attacker"`
	Kind     Kind    `json:"kind"`
	attack.Verdict
}

// Kinds of results over more than one kind of traffic: all flows, and those of
// clients whose access links lose nothing, and a datagram in 200.
const (
	AllKinds Kind = "all"
	Lossless Kind = "no loss"
	Lossy    Kind = "0.5 % loss"
)

// groups are all kinds of results.
var groups = append([]Kind{AllKinds, Lossless, Lossy}, Kinds...)

// Make runs what a report needs, as many runs at once as there are processors, and
// judges it. It returns early, with an error, when ctx ends.
func Make(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Size: o.Size, Seeds: o.Seeds}
	for _, level := range o.Levels {
		for _, load := range o.Loads {
			runs, err := o.run(ctx, level, load, nil)
			if err != nil {
				return nil, err
			}
			r.add(level, load, runs)
		}
	}
	gates, err := Gates()
	if err != nil {
		return nil, err
	}
	r.judge(gates)
	return r, nil
}

// attacked is a run and what attackers made of it.
type attacked struct {
	kinds         []Kind
	scores        []scored
	use           float64
	atMix, onPath []float64
	err           error
}

// run runs a level under a load with every seed. weaken: see observe.
func (o *Options) run(ctx context.Context, level wire.Level, load float64, weaken func(*lab.Plan)) ([]attacked, error) {
	runs := make([]attacked, o.Seeds)
	turn := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	var told sync.Mutex
	tell := func(seed int, what string) {
		if o.Progress != nil {
			told.Lock()
			defer told.Unlock()
			o.Progress(fmt.Sprintf("%v, load %v, seed %d of %d: %s", level, load, seed+1, o.Seeds, what))
		}
	}
	for seed := range runs {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			a := &runs[seed]
			if a.err = ctx.Err(); a.err != nil {
				return
			}
			tell(seed, "running")
			v, err := observe(level, uint64(seed+1), o.Size, load, weaken)
			if a.err = err; err != nil {
				return
			}
			tell(seed, "attacking")
			*a = attacked{kinds: v.kinds, scores: v.attackAll(), use: v.use, atMix: v.atMix, onPath: v.onPath}
			tell(seed, "done")
		})
	}
	wait.Wait()
	for _, a := range runs {
		if a.err != nil {
			return nil, a.err
		}
	}
	return runs, nil
}

// add sums up the runs of a level under a load.
func (r *Report) add(level wire.Level, load float64, runs []attacked) {
	l := Load{Level: level, Name: level.String(), Factor: load}
	var atMix, onPath []float64
	for _, a := range runs {
		l.Use += a.use / float64(len(runs))
		atMix, onPath = append(atMix, a.atMix...), append(onPath, a.onPath...)
	}
	l.MixBits, l.PathBits = entropyOf(atMix), entropyOf(onPath)
	r.Loads = append(r.Loads, l)
	rng := prng.FromUint64(1).Stream("resamples/" + level.String())
	for k, first := range runs[0].scores {
		for _, kind := range groups {
			var matrices [][][]float64
			for _, a := range runs {
				matrices = append(matrices, ofKind(a.scores[k].scores, a.kinds, kind))
			}
			r.Results = append(r.Results, Result{level.String(), load, first.view, first.attacker, kind, attack.Judge(rng, matrices...)})
		}
	}
}

// ofKind is the part of the scores that is of flows of one kind.
func ofKind(m [][]float64, kinds []Kind, kind Kind) [][]float64 {
	var chosen []int
	for i, k := range kinds {
		if k == kind || kind == AllKinds || kind == Lossless && !lossy(i) || kind == Lossy && lossy(i) {
			chosen = append(chosen, i)
		}
	}
	return attack.Matrix(len(chosen), func(i, j int) float64 { return m[chosen[i]][chosen[j]] })
}

func entropyOf(bits []float64) (e Entropy) {
	if len(bits) == 0 {
		return e
	}
	slices.Sort(bits)
	for _, b := range bits {
		e.Mean += b / float64(len(bits))
	}
	e.P05, e.Min = bits[len(bits)/20], bits[0]
	return e
}

// Gate is what attackers may reach, or at FAST must: a line of bounds.toml.
type Gate struct {
	Level string  `toml:"level" json:"level"`
	View  View    `toml:"view" json:"view"`
	Kind  Kind    `toml:"kind" json:"kind"`
	Most  float64 `toml:"auc_most" json:"auc_most,omitempty"`   // 0: no bound above
	Least float64 `toml:"auc_least" json:"auc_least,omitempty"` // that the best attacker must exceed; 0: no bound below
	// Known is why the bound is above chance where the level promises chance.
	Known string `toml:"known" json:"known,omitempty"`
}

//go:embed bounds.toml
var bounds []byte

// Gates are those of the data file.
func Gates() ([]Gate, error) {
	var file struct {
		Gate []Gate `toml:"gate"`
	}
	if err := toml.Unmarshal(bounds, &file); err != nil {
		return nil, fmt.Errorf("bounds.toml: %w", err)
	}
	return file.Gate, nil
}

// Outcome is a gate and the attacker that reaches furthest against it.
type Outcome struct {
	Gate
	Best   Result `json:"best"`
	Passed bool   `json:"passed"`
}

// String says what was reached against which bound.
func (o Outcome) String() string {
	return fmt.Sprintf("%s, load %v, %s, %s flows: %s reaches AUC %v, gate %s", o.Level, o.Best.Load, o.View, o.Kind, o.Best.Attacker, o.Best.AUC, o.bound())
}

// judge holds the results against the gates of their levels. A bound above is broken
// when the whole 95 % interval of the strongest attacker lies beyond it: of few flows
// little can be said. One below is when the estimate does not exceed it: an attack
// that may have failed is no control. What promises chance does so under each load;
// other bounds were measured under that of 1.
func (r *Report) judge(gates []Gate) {
	for _, g := range gates {
		for _, l := range r.Loads {
			if l.Name != g.Level || l.Factor != 1 && g.Most != chanceMost {
				continue
			}
			best, found := r.best(l, g.View, g.Kind)
			if !found {
				continue
			}
			passed := (g.Most == 0 || best.AUC.Low <= g.Most) && (g.Least == 0 || best.AUC.Value > g.Least)
			r.Gates = append(r.Gates, Outcome{Gate: g, Best: best, Passed: passed})
		}
	}
}

// best is the result with the greatest AUC. Of attackers that link one end to a mix
// only, the worse counts: who joins both well may reach as far.
func (r *Report) best(l Load, view View, kind Kind) (best Result, found bool) {
	best.AUC.Value = math.Inf(-1)
	var sides [2]*Result // the best that link the client, and the target
	for i, x := range r.Results {
		switch {
		case x.Level != l.Name || x.Load != l.Factor || x.View != view || x.Kind != kind:
		case side[x.Attacker] != 0:
			if s := &sides[side[x.Attacker]-1]; *s == nil || x.AUC.Value > (*s).AUC.Value {
				*s = &r.Results[i]
			}
		case x.AUC.Value > best.AUC.Value:
			best, found = x, true
		}
	}
	if sides[0] == nil || sides[1] == nil {
		return best, found
	}
	worse := sides[0]
	if sides[1].AUC.Value < worse.AUC.Value {
		worse = sides[1]
	}
	if worse.AUC.Value > best.AUC.Value {
		best, found = *worse, true
	}
	return best, found
}

// side is which end an attacker links to a mix: 1 the client, 2 the target, 0 both.
var side = map[string]int{clientToMix: 1, mixToTarget: 2, mixLearnt: 2, mixToLate: 2, mixToMissing: 2}

// Failed are the gates that did not hold.
func (r *Report) Failed() (failed []Outcome) {
	for _, o := range r.Gates {
		if !o.Passed {
			failed = append(failed, o)
		}
	}
	return failed
}

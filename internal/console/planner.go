package console

import (
	"errors"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/control/capacity"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// measuredCost is what `nyx bench capacity --phase alpha` measured, as
// docs/performance.md has it ("The capacity plan"); the test compares.
var measuredCost = capacity.Cost{Hop: 1230 * time.Nanosecond, Setup: 145 * time.Microsecond, SessionBytes: 3584, StreamIn: 1.23, MixIn: 2.07}

const (
	sessionsMost = 100_000_000
	// coresLeast is a container's smallest share of a processor; a plan of less would be of
	// more nodes than can be counted.
	coresLeast = 0.01
	coresMost  = 1024
)

// planLevels are those that a plan can be made for: FAST by the load that was measured, the
// others by what their routes emit whatever is asked.
var planLevels = []wire.Level{wire.Fast, wire.Standard, wire.High, wire.Extreme}

// plannerPage is the plan by phase, and for the sessions that somebody asks for.
type plannerPage struct {
	Cost     capacity.Cost
	Headroom float64
	Level    wire.Level
	Levels   []wire.Level
	Sessions int
	Cores    float64
	Own      planned
	Asked    []askedNodes
	Beyond   bool
	Last     capacity.Phase // of the plan
	Phases   []planned
	Floor    int // cells a second of a route at the levels above FAST
}

// planned is a phase with what its nodes need.
type planned struct {
	capacity.Phase
	capacity.Need
}

// askedNodes is how many nodes of a kind are asked for by what; Kind is a key of words.
type askedNodes struct {
	Kind string
	capacity.Asked
}

// By is how many one way to reckon asks for.
func (a askedNodes) By(way string) int {
	return map[string]int{"measured": a.Measured, "ratio": a.Ratio, "least": a.Least}[way]
}

// costAt is what was measured, at a level. Levels above FAST start at one floor, and HIGH
// and EXTREME never leave it.
func costAt(l wire.Level) capacity.Cost {
	cost, floor := measuredCost, obfs.PolicyOf(l).Floor
	cost.Mixes = l.Mixes()
	if floor == 0 {
		return cost
	}
	return cost.At(float64(floor))
}

func (c *Console) planner(k *call) (any, error) {
	q := k.URL.Query()
	p := &plannerPage{Cost: measuredCost, Headroom: capacity.Headroom, Levels: planLevels, Level: wire.Fast, Sessions: 10_000, Cores: 2,
		Last: capacity.Phases[len(capacity.Phases)-1], Floor: int(obfs.PolicyOf(wire.Standard).Floor)}
	var err error
	if s := q.Get("sessions"); s != "" {
		if p.Sessions, err = strconv.Atoi(s); err != nil || p.Sessions < 1 || p.Sessions > sessionsMost {
			return nil, errors.New(k.face.say("error.sessions"))
		}
	}
	if s := q.Get("cores"); s != "" {
		if p.Cores, err = strconv.ParseFloat(s, 64); err != nil || !(p.Cores >= coresLeast && p.Cores <= coresMost) {
			return nil, errors.New(k.face.say("error.cores"))
		}
	}
	if s := q.Get("level"); s != "" {
		var ok bool
		if p.Level, ok = wire.ParseLevel(s); !ok {
			return nil, errors.New(k.face.say("error.level"))
		}
	}
	cost := costAt(p.Level)
	own := cost.For(p.Sessions, p.Cores)
	p.Own, p.Beyond = planned{own.Phase, cost.Of(own.Phase)}, own.Beyond
	p.Asked = []askedNodes{{"stream-nodes", own.Stream}, {"mix-nodes", own.Mix}}
	for _, phase := range capacity.Phases {
		p.Phases = append(p.Phases, planned{phase, cost.Of(phase)})
	}
	return p, nil
}

// Megabytes writes an amount of memory.
func (planned) Megabytes(b float64) string { return decimal(b / 1e6) }

// Number writes a figure of three digits or so.
func (planned) Number(v float64) string {
	if v < 1 {
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return decimal(v)
}

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
	coresMost    = 1024
)

// plannerPage is the plan by phase, and for the sessions that somebody asks for.
type plannerPage struct {
	Cost     capacity.Cost
	Headroom float64
	Level    string
	Levels   []string
	Sessions int
	Cores    float64
	Own      planned
	Phases   []planned
	Floor    int // cells a second of a route at STANDARD
}

// planned is a phase with what its nodes need.
type planned struct {
	capacity.Phase
	capacity.Need
}

func (c *Console) planner(k *call) (any, error) {
	q := k.URL.Query()
	floor := obfs.PolicyOf(wire.Standard).Floor
	p := &plannerPage{Cost: measuredCost, Headroom: capacity.Headroom, Levels: []string{wire.Fast.String(), wire.Standard.String()}, Level: wire.Fast.String(), Sessions: 10_000, Cores: 2, Floor: int(floor)}
	var err error
	if s := q.Get("sessions"); s != "" {
		if p.Sessions, err = strconv.Atoi(s); err != nil || p.Sessions < 1 || p.Sessions > sessionsMost {
			return nil, errors.New("sessions are 1 to 100,000,000")
		}
	}
	if s := q.Get("cores"); s != "" {
		if p.Cores, err = strconv.ParseFloat(s, 64); err != nil || !(p.Cores > 0 && p.Cores <= coresMost) {
			return nil, errors.New("processors of a node are above 0 and at most 1,024")
		}
	}
	cost := measuredCost
	if q.Get("level") == wire.Standard.String() {
		p.Level, cost = wire.Standard.String(), cost.At(float64(floor))
	}
	own := cost.For(p.Sessions, p.Cores)
	p.Own = planned{own, cost.Of(own)}
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

package gateway

import (
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
)

// Limits are what the configuration of the network says of a running gateway.
type Limits struct {
	control.Limits
	// RateMax is the greatest rate that a cover plan may give a class, in percent of
	// the class; 0: as the specification has it. It can make that narrower only.
	RateMax uint16
}

// HandleLimits takes limits, which hold from now on for what is new: sessions that
// are here, and the plan in force, stay.
func (g *Gateway) HandleLimits(_ machine.Time, l Limits) {
	g.admission.SetLimits(l.Limits)
	g.cover.RateMax = l.RateMax
}

// Limits are those in force.
func (g *Gateway) Limits() Limits { return Limits{g.admission.Limits(), g.cover.RateMax} }

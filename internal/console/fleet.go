package console

import (
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// From which strain on somebody should look, and from which a node is overloaded.
const strainAlert, strainLimit = 0.8, 1.0

// fleetTexts are what pages show of a fleet, by place.
func (f *figures) fleetTexts(p *telemetry.FleetPicture, t map[string]string) {
	share := func(v float64) string {
		if v < 0 {
			return "—"
		}
		return percent(v)
	}
	t["heard"], t["listed"], t["held"] = strconv.Itoa(p.Heard), strconv.Itoa(p.Listed), grouped(f.Held)
	t["strain"], t["load"], t["lag"] = share(p.Strain), share(p.Load), "—"
	t["overloaded"], t["alone"], t["draining"] = strconv.Itoa(p.Overloaded), strconv.Itoa(p.Alone), strconv.Itoa(p.Draining)
	if p.Lag > 0 {
		t["lag"] = millis(float64(p.Lag) / float64(time.Millisecond))
	}
	if p.Heard == 0 {
		t["held"] = "—"
	}
}

// fleetStates are those of a fleet's figures, by place.
func fleetStates(p *telemetry.FleetPicture, s map[string]string) {
	s["heard"], s["strain"], s["load"], s["carried"] = "ok", "ok", "ok", "ok"
	switch {
	case p.Strain >= strainLimit:
		s["strain"] = "bad"
	case p.Strain >= strainAlert:
		s["strain"] = "warn"
	}
	if p.Load > loadAlert {
		s["load"] = "warn"
	}
	if p.Heard < p.Listed {
		s["heard"] = "warn"
	}
	if p.Heard == 0 {
		s["heard"], s["strain"], s["load"], s["carried"] = "none", "none", "none", "none"
	}
}

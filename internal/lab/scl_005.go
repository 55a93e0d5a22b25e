package lab

import (
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// Times of SCL-005 within its cycle: cover is at its peak for the last of them.
const (
	coverCycle = 2 * time.Hour
	coverPeak  = 45 * time.Minute
)

// coverPeaks is SCL-005: routes whose load falls, again and again, so far that
// cover is three times what it was. How much of the time is the ratio what it
// should be?
func coverPeaks(r *Run) error {
	base, left := r.Param("load"), r.Param("load_at_peak")
	load := func(at machine.Time) float64 {
		if time.Duration(at)%coverCycle >= coverCycle-coverPeak {
			return base * left
		}
		return base
	}
	var loads []func(machine.Time) float64
	for range int(r.Param("routes")) {
		loads = append(loads, load)
	}
	policy := obfs.PolicyOf(wire.Standard)
	if !r.Protected {
		policy.MinStay = time.Duration(r.Param("hours") * float64(time.Hour)) // no class is left again
	}
	c := r.newCrowd(policy, loads)
	c.steered = r.Protected
	epochs := max(1, int(r.Scale*r.Param("hours")*float64(time.Hour/obfs.CoverEpoch)))
	least, most := 10.0, 0.0
	var watch control.CoverWatch
	for e := range epochs {
		_, err := c.epoch(func(rep *obfs.Report) {
			if e < int(coverCycle/obfs.CoverEpoch)/4 {
				return // the loop is finding its first plan
			}
			ratio, any := rep.Ratio()
			if any {
				r.Observe("obf_cover_ratio", ratio)
				least, most = min(least, ratio), max(most, ratio)
			}
			r.Trial("cover_traffic_compliance", watch.Note(rep))
		})
		if err != nil {
			return err
		}
		r.Progress("epoch %d of %d", e+1, epochs)
	}
	r.Observe("cover_added_wait", float64(c.waited.Quantile(0.95))/1000)
	r.Note("ratios of five minutes from %.2f to %.2f; where all routes are at their floors there is none, and a minute complies", least, most)
	return nil
}

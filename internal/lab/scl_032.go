package lab

import (
	"math"
	"time"

	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// continuousCover is SCL-032: routes under the control loop for two days, whose
// loads rise and fall with the day, on a process that is never quite on time. Is as
// much emitted as the loop asks for?
func continuousCover(r *Run) error {
	loads := spreadLoads(int(r.Param("routes")), r.Param("load_least"), r.Param("load_most"), r.Param("day_swing"))
	c := r.newCrowd(obfs.PolicyOf(wire.Standard), loads)
	c.late, c.drifts = r.Duration("late_mean_ms", time.Millisecond), !r.Protected
	epochs := max(4, int(math.Round(r.Scale*r.Param("hours")*float64(time.Hour/obfs.CoverEpoch))))
	changes, alerts := 0, 0
	for e := range epochs {
		before := c.want
		state, err := c.epoch(func(rep *obfs.Report) {
			if ratio, ok := rep.Ratio(); ok && e > 0 {
				r.Observe("obf_cover_ratio", ratio)
			}
		})
		if err != nil {
			return err
		}
		emitted, asked := 0.0, 0.0
		for _, s := range c.routes {
			emitted, asked = emitted+float64(s.emitted), asked+s.asked
			s.emitted, s.asked = 0, 0
		}
		r.Observe("cover_drift_percent", math.Abs(emitted-asked)/asked)
		if c.want != before {
			changes++
		}
		if state.Alert {
			alerts++
		}
		r.Progress("epoch %d of %d", e+1, epochs)
	}
	r.Note("%d epochs; the loop changed a rate in %d of them and told of a ratio above 45 %% in %d; drift is of all routes together in an epoch", epochs, changes, alerts)
	return nil
}

package lab

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/slo"
)

// errorSpike is SCL-026: of the sessions that come to a Stream node a twentieth begins to
// fail, and the operator's pager is to ring within a minute. Prometheus and Alertmanager
// are real, with the files of deploy; PagerDuty is a double. In the control nobody has
// declared the objective of errors.
func errorSpike(r *Run) error {
	if err := monitor.There(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-lab-spike-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := newPager()
	defer p.Close()
	to, err := p.receivers(dir)
	if err != nil {
		return err
	}
	am, err := monitor.Alertmanager(filepath.Join(dir, "alertmanager"), slo.Alertmanager(to), "")
	if err != nil {
		return err
	}
	defer am.Close()
	objectives := slo.Objectives
	if !r.Protected {
		objectives = slices.DeleteFunc(slices.Clone(objectives), func(o slo.Objective) bool { return o.Name == "errors" })
	}
	node := &admissions{}
	prom, end, err := node.serve(dir, objectives, am.Addr)
	if err != nil {
		return err
	}
	defer end()
	perSecond, quiet := int(r.Param("sessions_per_second")), int(r.Param("quiet_seconds"))
	failing := int(r.Param("error_ratio") * float64(perSecond))
	watch := time.After(time.Duration(quiet+int(r.Param("watch_seconds"))) * time.Second)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var began time.Time
	for second := 0; ; second++ {
		failed := 0
		if second >= quiet {
			failed = failing
		}
		if second == quiet {
			began = time.Now()
			r.Progress("%d %% of the sessions fail", 100*failing/perSecond)
		}
		node.come(perSecond-failed, failed)
		select {
		case said := <-p.alert:
			if !strings.HasPrefix(said, "errors:") {
				continue // of another objective: none should
			}
			if began.IsZero() {
				r.Observe("alerts_without_cause", 1)
				continue
			}
			r.Observe("alertmanager_notifications", time.Since(began).Seconds())
			r.Observe("alerts_without_cause", 0)
			v, err := prom.Query(context.Background(), `slo_burn_rate{slo="errors",window="1m"}`)
			if err == nil && len(v) == 1 {
				r.Note("rung %.1f s after the first error; the budget was then spent at %.0f times the even rate", time.Since(began).Seconds(), v[0].Value)
			}
			return nil
		case <-watch:
			r.Observe("alertmanager_notifications", time.Since(began).Seconds())
			r.Note("nothing rang in %v s", r.Param("watch_seconds"))
			return nil
		case <-tick.C:
		}
	}
}

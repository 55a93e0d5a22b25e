package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/slo"
)

// indicatorAudit is SCL-025: three times a day somebody looks whether every indicator is
// there. Each look goes from the objectives to the table of series, to the rules, to a
// panel of a dashboard, and to what a real Prometheus has of a network that runs as the
// program ships it: nyx up, whose Stream nodes probe. In the control they do not, and
// nobody tells how long answers take.
func indicatorAudit(r *Run) error {
	if err := monitor.There(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-lab-indicators-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var probes []string
	if r.Protected {
		probes = []string{"--probe", r.Duration("probe_seconds", time.Second).String()}
	}
	network, err := r.startUp(dir, probes...)
	if err != nil {
		return err
	}
	defer network.stop()
	prom, err := monitor.Prometheus(filepath.Join(dir, "prometheus"), slo.Prometheus([]string{network.metrics}, "nyx.rules.yml", "127.0.0.1:1"), slo.Rules(slo.Objectives), "nyx.rules.yml")
	if err != nil {
		return err
	}
	defer prom.Close()
	series := slo.Series(slo.Objectives)
	wait := func(expr string, enough func([]monitor.Value) bool) ([]monitor.Value, error) {
		ctx, cancel := context.WithTimeout(context.Background(), r.Duration("look_seconds", time.Second))
		defer cancel()
		return prom.Await(ctx, expr, enough)
	}
	wait("sli_present", func(v []monitor.Value) bool { return len(lacking(series, v)) == 0 }) // what does not come is missing
	judged := 0.0
	for range int(r.Param("looks")) {
		again, err := wait(fmt.Sprintf("timestamp(sli_completeness) > %f", judged), func(v []monitor.Value) bool { return len(v) == 1 })
		if err != nil {
			return err
		}
		judged = again[0].Value
		found, err := prom.Query(context.Background(), "sli_present")
		if err != nil {
			return err
		}
		missing := append(lacking(series, found), unmapped(series)...)
		r.Observe("sli_completeness", float64(len(missing)))
		if len(missing) > 0 {
			r.Progress("missing: %s", strings.Join(missing, ", "))
		}
	}
	r.Note("%d objectives rest on %d series; what Prometheus has of them is sli_present, which deploy's rules record", len(slo.Objectives), len(series))
	return nil
}

// lacking are the series of which Prometheus has nothing.
func lacking(series []string, found []monitor.Value) (out []string) {
	for _, name := range series {
		if !slices.ContainsFunc(found, func(v monitor.Value) bool { return v.Labels["sli"] == name && v.Value == 1 }) {
			out = append(out, name)
		}
	}
	return out
}

// unmapped are the series that are in no table, in no rule or on no dashboard.
func unmapped(series []string) (out []string) {
	rules := string(slo.Rules(slo.Objectives))
	for _, name := range series {
		if metric.Find(name) == nil || !onDashboard(name) || !strings.Contains(rules, name) {
			out = append(out, name)
		}
	}
	return out
}

// onDashboard reports whether a panel shows a series.
func onDashboard(name string) bool {
	whole := regexp.MustCompile(`\b` + name + `(_bucket|_count|_sum)?\b`)
	for _, d := range slo.Dashboards {
		for _, p := range d.Panels {
			for _, q := range p.Queries {
				if whole.MatchString(q.Expr) {
					return true
				}
			}
		}
	}
	return false
}

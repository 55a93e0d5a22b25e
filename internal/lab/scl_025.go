package lab

import (
	"context"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/slo"
)

// indicatorAudit is SCL-025: three times a day somebody looks whether every indicator is
// there. Each look goes from the objectives to the table of series, to the rules, to a
// panel of a dashboard, and to what a real Prometheus has of them. In the control a
// process does not tell one of them.
func indicatorAudit(r *Run) error {
	if err := monitor.There(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-lab-indicators-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	node := &admissions{}
	node.come(1000, 8)
	if !r.Protected {
		node.left = "node_overloaded"
	}
	prom, end, err := node.serve(dir, slo.Objectives, "127.0.0.1:1")
	if err != nil {
		return err
	}
	defer end()
	series := slo.Series(slo.Objectives)
	for range int(r.Param("looks")) {
		ctx, cancel := context.WithTimeout(context.Background(), r.Duration("look_seconds", time.Second))
		all := func(v []monitor.Value) bool { return len(v) == len(series) && lacking(v) == 0 }
		found, err := prom.Await(ctx, "sli_present", all)
		cancel()
		if err != nil && len(found) != len(series) {
			return err
		}
		missing := lacking(found)
		for _, name := range series {
			if metric.Find(name) == nil || !onDashboard(name) || !strings.Contains(string(slo.Rules(slo.Objectives)), name) {
				missing++
			}
		}
		r.Observe("sli_completeness", float64(missing))
	}
	r.Note("%d objectives rest on %d series; sli_completeness is what deploy's rules make of them", len(slo.Objectives), len(series))
	return nil
}

// lacking is how many series are not there.
func lacking(found []monitor.Value) (n int) {
	for _, v := range found {
		if v.Value != 1 {
			n++
		}
	}
	return n
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

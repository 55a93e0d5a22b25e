package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/lab/monitor"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/slo"
	"github.com/nyxnet/nyx/internal/trace"
)

// budgetBurn is SCL-027: 0.08 % of the sessions fail, day and night, and the budget of
// 0.1 % is spent at that pace in every window. Days of figures are written into a real
// Prometheus as if it had read them, and what its rules record of them is read. In the
// control the rules are written for another objective than the one that was agreed.
func budgetBurn(r *Run) error {
	if err := monitor.There(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-lab-burn-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	end := time.Now().Truncate(time.Minute)
	span := time.Duration(r.Param("days") * float64(24*time.Hour))
	sessions, failed, err := r.writePast(filepath.Join(dir, "past.txt"), end.Add(-span), end)
	if err != nil {
		return err
	}
	blocks := filepath.Join(dir, "prometheus", "data")
	if out, err := exec.Command("promtool", "tsdb", "create-blocks-from", "openmetrics", filepath.Join(dir, "past.txt"), blocks).CombinedOutput(); err != nil {
		return fmt.Errorf("promtool: %w: %s", err, out)
	}
	objectives := slices.Clone(slo.Objectives)
	if !r.Protected {
		objectives[slices.IndexFunc(objectives, func(o slo.Objective) bool { return o.Name == "errors" })].Target = 1 - r.Param("stale_budget")
	}
	prom, err := monitor.Prometheus(filepath.Join(dir, "prometheus"), slo.Prometheus([]string{"127.0.0.1:1"}, "nyx.rules.yml", "127.0.0.1:1"), slo.Rules(objectives), "nyx.rules.yml")
	if err != nil {
		return err
	}
	defer prom.Close()
	// In five minutes thirty thousand sessions come, of which some twenty fail: chance.
	windows := slo.Windows[slices.Index(slo.Windows, "30m"):]
	of := fmt.Sprintf(`slo_burn_rate{slo="errors",window=~"%s"}`, strings.Join(windows, "|"))
	ctx, cancel := context.WithTimeout(context.Background(), r.Duration("record_seconds", time.Second))
	defer cancel()
	recorded, err := prom.Await(ctx, of, func(v []monitor.Value) bool { return len(v) == len(windows) })
	if err != nil {
		return err
	}
	for _, v := range recorded {
		r.Observe("slo_burn_rate", v.Value)
		r.Note("over %s the budget is spent at %.2f times the even rate", v.Labels["window"], v.Value)
	}
	r.Note("%d of %d sessions failed in %v", failed, sessions, span)
	return nil
}

// writePast writes minutes of counters in the format of OpenMetrics.
func (r *Run) writePast(path string, from, to time.Time) (sessions, failed int, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	draw := r.Source("sessions").Stream("fail")
	refusals := strings.TrimSuffix(metric.OfCounter(trace.AdmissionShed), "_total")
	var refused, admitted strings.Builder
	per, oneIn := int(r.Param("sessions_per_second")*60), int(1/r.Param("error_ratio"))
	for at := from; !at.After(to); at = at.Add(time.Minute) {
		for range per {
			if draw.IntN(oneIn) == 0 {
				failed++
			}
		}
		sessions += per
		fmt.Fprintf(&refused, "%s_total{part=\"stream-1\"} %d %d\n", refusals, failed, at.Unix())
		fmt.Fprintf(&admitted, "telemetry_session_handshake_latency_count{part=\"stream-1\"} %d %d\n", sessions-failed, at.Unix())
	}
	fmt.Fprintf(w, "# TYPE %s counter\n%s# TYPE telemetry_session_handshake_latency_count gauge\n%s# EOF\n", refusals, refused.String(), admitted.String())
	return sessions, failed, w.Flush()
}

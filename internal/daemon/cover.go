package daemon

import (
	"log/slog"
	"sync"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/wire"
)

// How cover plans come about and travel (docs/protocol.md, section 8.4):
//
//  1. window.read: each Stream node sums up what its routes emitted in five minutes,
//     as far as it hides each, and says so in its reports (report.go).
//  2. crier.plan: each authority takes the reports of an epoch and proposes the plan
//     of the next, in its bulletins (bulletins.go).
//  3. listener.ask: clients and Stream nodes make one plan of the proposals
//     (conditions.go), which takePlan gives to the machine. It judges the plan.

// window is what a Stream node tells of the last window.
type window struct {
	number uint32
	report *wire.CoverReport // nil: none has ended since the start

	mu    sync.Mutex
	watch control.CoverWatch
}

// read returns what to report at a second since 1970, and looks at a window that has
// ended. What is watched is of all routes, what is told of crowds alone.
func (w *window) read(unix int64, covered func() (obfs.Report, bool)) *wire.CoverReport {
	now := obfs.WindowAt(unix)
	ended := w.number != 0 && now != w.number
	if w.number = now; !ended {
		return w.report
	}
	r, ok := covered()
	if !ok {
		return nil
	}
	w.mu.Lock()
	w.watch.Note(&r)
	w.mu.Unlock()
	crowd := r.Crowd()
	w.report = crowd.Wire(now - 1)
	return w.report
}

func (w *window) watched() *control.CoverWatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	watch := w.watch
	return &watch
}

// covered is what the routes that end at a node emitted in the last minutes; ok is
// false of a Mix node.
func (n *Node) covered() (sum obfs.Report, ok bool) {
	if n.gateway == nil {
		return sum, false
	}
	n.host.Do(func(now machine.Time) { sum = addReports(n.gateway.Reports(now)) })
	return sum, true
}

func addReports(all []obfs.Report) (sum obfs.Report) {
	for _, r := range all {
		sum.Add(r)
	}
	return sum
}

func (n *Node) takePlan(plan *wire.CoverPlan) {
	var why obfs.Refusal
	n.host.Do(func(now machine.Time) { why = n.gateway.HandleParams(now, gateway.Params{Plan: plan}) })
	tellJudged(n.log, plan, why)
}

func (c *Client) takePlan(plan *wire.CoverPlan, log *slog.Logger) {
	var why obfs.Refusal
	c.host.Do(func(now machine.Time) { why = c.core.HandleParams(now, client.Params{Plan: plan}) })
	tellJudged(log, plan, why)
}

// SetProfile has routes shaped for another profile from the next full minute on.
func (c *Client) SetProfile(p wire.Profile) {
	c.host.Do(func(now machine.Time) { c.core.HandleParams(now, client.Params{Profile: &p}) })
}

func tellJudged(log *slog.Logger, plan *wire.CoverPlan, why obfs.Refusal) {
	if why != 0 {
		log.Warn("a cover plan is refused; the one before stays in force", "epoch", plan.Epoch, "reason", why.String())
		return
	}
	log.Debug("cover plan", "epoch", plan.Epoch)
}

// plan moves the authority's plans on, and tells of what is to be told. The lock is
// held.
func (c *crier) plan(wall int64, log *slog.Logger) {
	judged, proposed := c.planner.Turn(wall, c.board.Plans(), c.regions)
	if judged.Plan != nil {
		tellJudged(log, judged.Plan, judged.Why)
	}
	if !proposed {
		return
	}
	s := c.planner.State()
	if s.Alert {
		log.Warn("the cover ratio is high", "ratio", s.Ratio, "alert", control.CoverAlert, "limit", control.CoverLimit)
	}
	if s.Uneven {
		log.Warn("cover lies in few regions", "distribution", s.Distribution, "least", control.CoverSpread)
	}
}

// cover is what a part knows of cover.
type cover struct {
	refused [obfs.NumRefusals]uint64
	watch   *control.CoverWatch // nil: it watches no windows
	ratio   float64             // negative: no route is above its floor
	spread  float64             // negative: there is no cover, or it sees one region only
	// crowd says that the figures are of so many routes that they hide each.
	crowd bool
}

func coverOf(sum obfs.Report, refused [obfs.NumRefusals]uint64) *cover {
	c := &cover{refused: refused, ratio: -1, spread: -1}
	if ratio, ok := sum.Ratio(); ok {
		c.ratio = ratio
	}
	return c
}

func (c *Client) cover() *cover {
	var out *cover
	c.host.Do(func(now machine.Time) { out = coverOf(addReports(c.core.CoverReports(now)), c.core.PlansRefused()) })
	return out
}

// cover of a Mix node is nil.
func (n *Node) cover() (out *cover) {
	if n.gateway == nil {
		return nil
	}
	n.host.Do(func(now machine.Time) { out = coverOf(addReports(n.gateway.Reports(now)), n.gateway.PlansRefused()) })
	if out != nil {
		out.watch = n.gauge.cover.watched()
	}
	return out
}

func (c *crier) cover() *cover {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, watch := c.planner.State(), c.planner.Watch
	return &cover{refused: c.planner.Refused(), watch: &watch, ratio: s.Ratio, spread: s.Distribution, crowd: true}
}

// writeCover writes the figures of cover by the names of the specification. What one
// machine's routes did tells content from cover; what an authority found does not.
func writeCover(to *metric.Page, parts []part) {
	for i := range parts {
		c, name := parts[i].cover, parts[i].Name
		if c == nil {
			continue
		}
		for why := obfs.Refusal(1); why < obfs.NumRefusals; why++ {
			to.Add("obf_plans_refused_reason_total", float64(c.refused[why]), "part", name, "reason", why.String())
		}
		if !to.Traffic && !c.crowd {
			continue
		}
		if c.ratio >= 0 {
			to.Add("obf_cover_ratio", c.ratio, "part", name)
		}
		if c.spread >= 0 {
			to.Add("obf_cover_geo_distribution", c.spread, "part", name)
		}
		if w := c.watch; w != nil {
			ratio(to, "cover_traffic_compliance", &parts[i], w.Complied, w.Windows)
			to.Add("obf_cover_windows_total", float64(w.Windows), "part", name)
			to.Add("obf_cover_windows_complied_total", float64(w.Complied), "part", name)
			to.Add("obf_cover_alerts_total", float64(w.Alerts), "part", name)
		}
	}
}

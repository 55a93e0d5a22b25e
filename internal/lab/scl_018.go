package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/engine/opa"
)

// ruleOf is a policy with a rule for each of many regions, under a revision.
const ruleOf = `package nyx.admission

decision := {"accept": true, "per_minute": limit, "lifetime_s": 3600, "cache_s": %d, "work": work}

default limit := 30

limit := data.limits[input.region]

default work := 0

work := 14 if {
	input.load == "full"
	input.credential == "none"
}
`

// decisionRush is SCL-018: decisions are asked for at a rate of three engines, whose
// bundle is replaced meanwhile.
func decisionRush(r *Run) error {
	dir, err := os.MkdirTemp("", "nyx-policy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	regions := int(r.Param("regions"))
	if err := writePolicy(dir, regions, 1); err != nil {
		return err
	}
	engines := make([]*opa.Engine, int(r.Param("engines")))
	for i := range engines {
		poll := time.Duration(float64(r.Duration("bundle_sync_s", time.Second)) * r.Scale)
		engines[i], err = opa.Start(opa.Config{Source: dir, Poll: poll, Unprepared: !r.Protected}, r.Source(fmt.Sprint("engine ", i)))
		if err != nil {
			return err
		}
		defer engines[i].Close()
	}
	decisions := r.Scaled("decisions")
	if !r.Protected {
		decisions = min(decisions, int(r.Param("control_decisions")))
	}
	gap := time.Duration(float64(time.Minute) / r.Param("decisions_per_minute"))
	took, failed, late := make([]time.Duration, decisions), atomic.Int64{}, time.Duration(0)
	turn := make(chan struct{}, int(r.Param("in_flight")))
	draw := r.Source("questions").Stream("draw")
	var deciding, replacing sync.WaitGroup
	var replaced error
	begun := time.Now()
	for i := range decisions {
		if i == decisions/4 { // beside, or whoever asks would wait for the disk
			replacing.Go(func() { replaced = writePolicy(dir, regions, 2) })
		}
		due := begun.Add(time.Duration(i) * gap)
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		region, q := fmt.Sprint("region-", draw.IntN(regions)), control.QuestionAt(draw.IntN(control.NumQuestions))
		turn <- struct{}{}
		late = max(late, time.Since(due))
		deciding.Go(func() {
			defer func() { <-turn }()
			if _, err := engines[i%len(engines)].Decide(context.Background(), region, q); err != nil {
				failed.Add(1)
			}
			took[i] = time.Since(due) // with what the generator is late
		})
	}
	deciding.Wait()
	if replacing.Wait(); replaced != nil {
		return replaced
	}
	offered := float64(decisions) / time.Since(begun).Minutes()
	for _, d := range took {
		r.ObserveTime("opa_decision_latency", d)
	}
	r.Tally("decisions_failed", uint64(failed.Load()), uint64(decisions))
	for _, e := range engines {
		alone, _, loads := e.Figures()
		r.Trial("bundle_in_force", loads.Revision == "2")
		r.ObserveTime("told_by_engine_p99", time.Duration(alone.Quantile(0.99))*time.Microsecond)
	}
	r.Note("%d decisions at %.0f a minute, with a bundle replaced beside, asked for at most %v late; told_by_engine_p99 is opa_decision_latency as each engine counts and exports it", decisions, offered, late.Round(time.Millisecond))
	return nil
}

// writePolicy puts a policy into a directory.
func writePolicy(dir string, regions, revision int) error {
	limits := `{"limits": {`
	for i := range regions {
		if i > 0 {
			limits += ", "
		}
		limits += fmt.Sprintf(`"region-%d": %d`, i, 10+i%30)
	}
	manifest := fmt.Sprintf(`{"revision": "%d", "rego_version": 1, "metadata": {"number": %d}}`, revision, revision)
	for _, file := range [...][2]string{{"admission.rego", fmt.Sprintf(ruleOf, 300+revision)}, {"data.json", limits + "}}"}, {".manifest", manifest}} {
		path := filepath.Join(dir, file[0])
		if err := os.WriteFile(path+".new", []byte(file[1]), 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

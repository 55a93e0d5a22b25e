package control

import (
	"slices"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/trace"
)

// probesMost bounds the requests of probes that wait for a decision: a node has one at a
// time, which may have given up the one before.
const probesMost = 4

// probed notes a request of the owner's probe. It reports whether that waits for its
// decision to be asked for anew, so that it meets the control plane as it is now; then it
// goes on like any other. Where nobody can be asked, it does so at once.
func (i *Intake) probed(now machine.Time, p *pending) bool {
	if i.Own == nil || !i.Own(p.init.Nonce) {
		return false
	}
	p.own = true
	i.Steps.Emit(now, trace.StepCame, uint64(p.question.place()), 0)
	if !i.central || len(i.probes) >= probesMost || !i.Decisions.renew(now, p.question) {
		return false
	}
	i.probes = append(i.probes, p)
	return true
}

// resume lets probes go on whose question has an answer, or will have none.
func (i *Intake) resume(now machine.Time, q Question) {
	waiting := i.probes
	i.probes = slices.DeleteFunc(slices.Clone(waiting), func(p *pending) bool { return p.question == q })
	for _, p := range waiting {
		if p.question == q {
			i.push(now, p)
		}
	}
}

// step tells that a request of a probe has a decision.
func (i *Intake) step(now machine.Time, p *pending, d *Decision) {
	if p.own {
		i.Steps.Emit(now, trace.StepDecided, uint64(d.Refused), 0)
	}
}

// renew has a question asked at once, whatever is known. It reports whether there will be
// an answer, or a fault.
func (c *Decisions) renew(now machine.Time, q Question) bool {
	h := &c.held[q.place()]
	if h.check == idle {
		h.check = wanted
		c.counts[trace.PolicyCacheMiss]++
	}
	return h.check == asked || now >= h.after
}

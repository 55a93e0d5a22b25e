package console

import (
	"context"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// closeMax bounds what is still recorded when the console ends, which it does within
// seconds.
const closeMax = 2 * time.Second

// refusal is a kind of them: who wanted what.
type refusal struct {
	who    Person
	action string
}

// manyRefused stands for those of too many kinds to be counted apart.
var manyRefused = refusal{Person{Name: "console", Role: Viewer}, "refusals"}

// tellRefused records, or counts, that somebody wanted what the policy refuses.
func (c *Console) tellRefused(k *call, action string) {
	if c.cfg.Record == nil {
		return
	}
	if kind, first := c.refused.Add(refusal{k.who.Person, action}, manyRefused, c.cfg.Now()); first {
		ctx, cancel := timed(k.Request, recordMax)
		defer cancel()
		c.recordRefusals(ctx, kind, 1)
	}
}

// tellCounted records the refusals that were counted for a minute, or all of them.
func (c *Console) tellCounted(ctx context.Context, all bool) {
	for kind, n := range c.refused.Due(c.cfg.Now(), all) {
		c.recordRefusals(ctx, kind, n)
	}
}

// tellSoon records them as requests come.
func (c *Console) tellSoon(r *http.Request) {
	ctx, cancel := timed(r, recordMax)
	defer cancel()
	c.tellCounted(ctx, false)
}

func (c *Console) recordRefusals(ctx context.Context, kind refusal, count uint64) {
	e := c.newEvent(kind.who, "console.refused", kind.action)
	e.Outcome, e.Count = audit.Refused, count
	c.keepEvent(ctx, e)
}

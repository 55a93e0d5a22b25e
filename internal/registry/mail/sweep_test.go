package mail

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/pipeline/bustest"
	"github.com/nyxnet/nyx/internal/registry"
)

// crew are five members of one store, of whose lanes half are 10 messages.
type crew struct {
	t     *testing.T
	store registry.Store
	all   [5]*Bus
	next  int // number of the next message
}

func five(t *testing.T) *crew {
	c := &crew{t: t, store: registry.NewMemory(nil, nil)}
	for i := range c.all {
		c.all[i] = memberOf(t, c.store, "abcde", i, pipeline.Limits{Messages: 20})
	}
	return c
}

// publish has messages published, a letter each, and settled by some members.
func (c *crew) publish(lane pipeline.Lane, messages int, by ...*Bus) {
	c.t.Helper()
	for range messages {
		bustest.Publish(c.t, c.all[0], lane, bustest.Messages(c.next, 1)...)
		c.next++
	}
	for _, b := range by {
		c.settle(lane, messages, b)
	}
}

func (c *crew) settle(lane pipeline.Lane, messages int, b *Bus) {
	c.t.Helper()
	if err := b.Settle(c.t.Context(), bustest.Receive(c.t, b, lane, messages)...); err != nil {
		c.t.Fatal(err)
	}
}

// marked waits until the first member has heard of the mark of another; those who live
// settle what tells it.
func (c *crew) marked(b *Bus, live ...*Bus) {
	c.t.Helper()
	marked(c.t, c.store, b, live[0])
	for _, l := range live[1:] {
		got, err := l.Receive(c.t.Context(), pipeline.Incidents, 1)
		if err == nil {
			err = l.Settle(c.t.Context(), got...)
		}
		if err != nil || len(got) != 1 {
			c.t.Fatalf("%s has %d of 1 incidents: %v", l.cfg.Name, len(got), err)
		}
	}
}

// gone waits until these members have been given up, and looks that every log that is
// left is told so of each of them, and that there is room again.
func (c *crew) gone(members string) {
	c.t.Helper()
	awaitStore(c.t, c.store, readPrefix, func(all []registry.Entry) bool {
		got := ""
		for _, e := range all {
			if strings.HasSuffix(string(e.Value), "true") {
				got += strings.TrimPrefix(e.Key, readPrefix)
			}
		}
		if strings.Trim(got, members) != "" {
			c.t.Fatalf("%q are given up, want %q", got, members)
		}
		return got == members
	})
	awaitStore(c.t, c.store, ordinary, none)
	for i, b := range c.all {
		if strings.Contains(members, b.cfg.Name) {
			continue
		}
		if of := c.gaps(b, len(members)); of != members {
			c.t.Errorf("member %d is told of %q, want %q", i, of, members)
		}
	}
}

// gaps waits until a member is told of so many who were given up, and returns them.
func (c *crew) gaps(b *Bus, many int) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), bustest.Patience)
	defer cancel()
	var of []string
	for len(of) < many {
		got, err := b.Receive(ctx, pipeline.Incidents, 1)
		if err == nil {
			err = b.Settle(ctx, got...)
		}
		if err != nil {
			c.t.Fatalf("%s is told of %q, want %d: %v", b.cfg.Name, of, many, err)
		}
		for _, d := range got {
			if e, err := audit.Parse(d.Payload); err == nil && e.Action == "log.gap" && e.Validate() == nil {
				of = append(of, strings.TrimPrefix(e.Subject, "control/"))
			}
		}
	}
	slices.Sort(of)
	return strings.Join(of, "")
}

// Two of five members who are dead are given up together, whether they died together or
// one after the other, and whichever lane fills: what says so has room in a full one.
// (Controls: where only the slowest one is compared with the next, nobody is given up,
// and so it is of those who died apart where each has to lack half a lane.)
func TestTwoOfFiveGivenUp(t *testing.T) {
	t.Run("together", func(t *testing.T) {
		c := five(t)
		c.all[3].Close()
		c.all[4].Close()
		c.publish(pipeline.Ordinary, 18, c.all[:3]...)
		c.gone("de")
		marked(t, c.store, c.all[0], c.all[0]) // the first has seen that they are removed
		c.publish(pipeline.Ordinary, 20, c.all[:3]...)
	})
	t.Run("one after the other", func(t *testing.T) {
		c := five(t)
		c.all[4].Close()
		c.publish(pipeline.Ordinary, 9, c.all[:4]...)
		c.marked(c.all[3], c.all[:3]...)
		c.all[3].Close()
		c.publish(pipeline.Ordinary, 9, c.all[:3]...)
		c.gone("de")
	})
	t.Run("full of incidents", func(t *testing.T) {
		c := five(t)
		c.all[3].Close()
		c.all[4].Close()
		c.publish(pipeline.Incidents, 20)
		for _, b := range c.all[:3] {
			c.settle(pipeline.Incidents, 20, b)
		}
		c.gone("de")
	})
}

// A member that is behind those who keep up by little is not given up with one that is
// dead. (Control: where it is enough that the slowest lacks half a lane of what the third
// slowest has.)
func TestWhoKeepsUpIsNotGivenUp(t *testing.T) {
	c := five(t)
	c.all[4].Close()
	c.publish(pipeline.Ordinary, 9, c.all[:4]...)
	c.marked(c.all[3], c.all[:4]...)
	c.publish(pipeline.Ordinary, 2, c.all[:3]...)
	for _, b := range c.all[:3] {
		c.marked(b, c.all[:4]...)
	}
	awaitStore(t, c.store, readPrefix+"e", func(e []registry.Entry) bool {
		if l := c.all[0].slowest(); len(l) != 0 || !strings.HasSuffix(string(e[0].Value), "false") {
			t.Fatalf("with 2 of 20 between the fourth and the third the mark of the last is %q, and given up are %+v", e[0].Value, l)
		}
		return true
	})
	c.settle(pipeline.Ordinary, 2, c.all[3])
	c.gone("e")
}

package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/seal"
)

// fleetRest is how long a fleet key stays before it may be rotated again: tickets and
// tokens are taken under the present key and the one before, and live for an hour.
const fleetRest = time.Hour

// Errors of operators' orders.
var (
	errNoSuchNode = errors.New("there is no such node on this machine")
	errDrains     = errors.New("the node leaves already")
)

// Settings is the configuration of the network; nil: another process has it.
func (c *Control) Settings() *changes.Log { return c.settings }

// TellRefusal records that an operator's change of the configuration was refused.
func (c *Control) TellRefusal(actor string, why error) { c.tell(refusal(actor, why)) }

// Drain has a node of a network on this machine leave: nobody draws it any more, and
// routes move away. It is refused where too few would be left for the level.
func (l *Local) Drain(name string) error {
	var node *Node
	left := 0 // of its kind, that stay
	for _, n := range l.Nodes {
		if n.cfg.Name == name {
			node = n
		}
	}
	if node == nil {
		return fmt.Errorf("%s: %w", name, errNoSuchNode)
	}
	if node.leaves.Load() {
		return fmt.Errorf("%s: %w", name, errDrains)
	}
	for _, n := range l.Nodes {
		if n != node && !n.leaves.Load() && (n.gateway != nil) == (node.gateway != nil) {
			left++
		}
	}
	need, kind := l.level.Mixes(), "Mix"
	if node.gateway != nil {
		need, kind = 2, "Stream"
	}
	if left < need {
		return fmt.Errorf("%s cannot leave: level %v needs %d %s nodes, and %d would be left; start with more of them", name, l.level, need, kind, left)
	}
	node.Leave()
	return nil
}

// RotateFleet gives all Stream nodes of a network on this machine a fresh fleet key.
// What was sealed under the one before stays good until it expires.
func (l *Local) RotateFleet(now time.Time) error {
	l.rotating.Lock()
	defer l.rotating.Unlock()
	if wait := l.rotated.Add(fleetRest).Sub(now); !l.rotated.IsZero() && wait > 0 {
		return fmt.Errorf("the fleet key was rotated less than an hour ago, and tickets under the one before it would break; come again in %v", wait.Round(time.Minute))
	}
	var fresh seal.Key
	systemEntropy().Stream("fleet").Read(fresh[:])
	defer clear(fresh[:])
	for _, n := range l.Nodes {
		if n.rotateFleet == nil {
			continue
		}
		key := fresh
		n.host.Do(func(at machine.Time) { n.rotateFleet(at, &key) })
		n.reloads.observe(0)
		n.teller.tell(audit.Event{Kind: audit.KeyEvent, Action: "rotate", Subject: "fleet"})
	}
	l.rotated = now
	return nil
}

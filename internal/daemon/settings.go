package daemon

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/exit"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/setup"
)

// How the configuration of the network reaches what runs (docs/control-plane.md):
//
//  1. SettingsDesk.serve: the control plane answers who asks for what follows a
//     revision, at once or when there is something (settingsdesk.go).
//  2. settler.follow: a node asks, again and again, and says with it what it has.
//  3. settings.Receiver: order, duplicates, times at which changes take effect.
//  4. settings.Apply: every part of the node prepares, then every part commits.
//
// Without a control plane a node goes on with what it had last, from its disk.

// askSettings asks the control plane for what follows a revision, and tells it what is in
// force here.
type askSettings func(ctx context.Context, query url.Values) (status int, answer []byte, err error)

const (
	// settingsPath is where the control plane hands out changes.
	settingsPath = "/control/v1/config"
	// settingsFile keeps the state that a node had last.
	settingsFile = "settings.json"
	// settleAgain is after what time a control plane that does not answer is asked
	// again at first; settleMost bounds that time.
	settleAgain = 250 * time.Millisecond
	settleMost  = 15 * time.Second
)

// settler has a node's parts follow the configuration of the network.
type settler struct {
	name   string
	roles  settings.Role
	schema *settings.Schema
	parts  []settings.Subscriber
	file   string // "" keeps nothing
	log    *slog.Logger
	works  func() error // nil: the node works fully
	traces tracer

	mu       sync.Mutex
	receiver *settings.Receiver
	applied  settings.Values
	revision uint64 // whose values are applied
	refused  uint64 // revision that parts could not take; 0: none
	why      error
	times    int // that values were applied
}

// newSettler returns the settler of a node, which has applied what is on disk.
func newSettler(name string, roles settings.Role, dir string, parts []settings.Subscriber, works func() error, log *slog.Logger) *settler {
	s := &settler{name: name, roles: roles, schema: settings.Network(), parts: parts, works: works, log: log,
		receiver: settings.NewReceiver(&settings.State{}), applied: settings.Values{}}
	if dir == "" {
		return s
	}
	s.file = filepath.Join(dir, settingsFile)
	b, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	state := &settings.State{}
	if err == nil {
		state, err = settings.ParseState(b)
	}
	if err != nil {
		log.Warn("the kept configuration is left; the control plane has it", "why", err)
		return s
	}
	s.receiver = settings.NewReceiver(state)
	s.settle(time.Now())
	return s
}

// follow asks for what follows what the node has until ctx ends.
func (s *settler) follow(ctx context.Context, plane askSettings) {
	for failures := 0; ; {
		err := s.ask(ctx, plane)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			continue
		}
		if failures++; failures == 3 {
			s.log.Warn("the control plane does not answer; the configuration stays as it is", "revision", s.receiver.State().Revision(), "why", err)
		}
		timer := time.NewTimer(min(settleAgain<<min(failures, 8), settleMost))
		select {
		case <-timer.C:
			s.take(settings.Delivery{}, time.Now()) // the time of some may have come
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// ask makes one request, which lasts until there is something or for some seconds,
// and no longer than until a change of before takes effect.
func (s *settler) ask(ctx context.Context, plane askSettings) error {
	s.mu.Lock()
	query := url.Values{}
	query.Set("after", strconv.FormatUint(s.receiver.State().Revision(), 10))
	query.Set("applied", strconv.FormatUint(s.revision, 10))
	hash := s.receiver.State().Hash()
	query.Set("hash", hex.EncodeToString(hash[:]))
	if s.refused != 0 {
		query.Set("refused", strconv.FormatUint(s.refused, 10))
		query.Set("why", shorten(s.why.Error()))
	}
	next, waits := s.receiver.State().Next()
	s.mu.Unlock()
	if s.works != nil && s.works() != nil {
		query.Set("failing", "1")
	}
	if waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, next)
		defer cancel()
	}
	status, b, err := plane(ctx, query)
	var d settings.Delivery
	switch {
	case waits && ctx.Err() != nil: // its time has come
	case err != nil:
		return err
	case status == http.StatusOK:
		if d, err = settings.ParseDelivery(b); err != nil {
			return err
		}
	case status != http.StatusNoContent:
		return fmt.Errorf("it answers %d: %s", status, shorten(string(b)))
	}
	s.take(d, time.Now())
	return nil
}

// whyMost bounds a reason that is told.
const whyMost = 256

func shorten(text string) string { return text[:min(len(text), whyMost)] }

// take hears of changes, and has those in force that are due.
func (s *settler) take(d settings.Delivery, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := d.State != nil && s.receiver.HandleState(d.State)
	for i := range d.Changes {
		if s.receiver.HandleChange(&d.Changes[i]) == settings.Conflict {
			s.log.Error("a change of the configuration is not the one that the node has of its revision; it is left", "revision", d.Changes[i].Revision)
		}
		grown = true
	}
	s.receiver.HandleTimer(now)
	if grown || s.refused != 0 || s.pending() {
		s.settle(now)
	}
	if s.refused == 0 {
		s.traces.applied(d.Changes, now)
	}
}

func (s *settler) pending() bool { return len(s.applied.Diff(s.mine())) > 0 }

// mine are the values for this node that its version knows. What it does not know is
// of a later version, and for others.
func (s *settler) mine() settings.Values {
	v := s.receiver.State().For(s.name)
	for key, value := range v {
		if k := s.schema.Key(key); k == nil || k.Roles&s.roles == 0 {
			delete(v, key)
		} else if k.Check(value) != nil {
			continue // refused below, with the reason
		}
	}
	return v
}

// settle has all parts take the present values, or none. The lock is held, or nobody
// else has the settler.
func (s *settler) settle(time.Time) {
	v, state := s.mine(), s.receiver.State()
	diff := s.applied.Diff(v)
	if len(diff) == 0 {
		s.revision, s.refused, s.why = state.Revision(), 0, nil
		s.keep(state)
		return
	}
	err := s.check(v)
	if err == nil {
		err = settings.Apply(v, s.parts)
	}
	if err != nil {
		if s.refused != state.Revision() {
			s.log.Error("the configuration cannot be had; nothing of it is in force", "revision", state.Revision(), "since", s.revision, "why", err)
		}
		s.refused, s.why = state.Revision(), err
		return
	}
	s.applied, s.revision, s.refused, s.why = v, state.Revision(), 0, nil
	s.times++
	keys := make([]string, len(diff))
	for i := range diff {
		keys[i] = diff[i].Key
	}
	s.log.Info("the configuration has changed", "revision", s.revision, "keys", keys)
	s.keep(state)
}

func (s *settler) check(v settings.Values) error {
	var faults []error
	for _, k := range s.schema.Keys() {
		faults = append(faults, k.Check(v[k.Name]))
	}
	return errors.Join(faults...)
}

// keep writes the state for the next start.
func (s *settler) keep(state *settings.State) {
	if s.file == "" {
		return
	}
	if err := setup.ReplaceFile(s.file, state.Encode()); err != nil {
		s.log.Warn("the configuration is not kept; the next start waits for the control plane", "why", err)
	}
}

// settled is what a node tells of its configuration.
type settled struct {
	Revision, Refused uint64
	settings.ReceiverCounts
}

func (s *settler) figures() settled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return settled{s.revision, s.refused, s.receiver.ReceiverCounts}
}

// Settings is what the parts of a node have of its configuration, as far as it is
// theirs to read at any time.
type Settings struct {
	mu     sync.Mutex
	values settings.Values
}

// Get returns the values that are in force.
func (s *Settings) Get() settings.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values
}

func (s *Settings) subscriber() settings.Subscriber {
	return settings.Subscriber{Name: "node", Prepare: func(v settings.Values) (func(), func(), error) {
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.values = v
		}, nil, nil
	}}
}

// follow has the node follow the configuration from when the directory lists it: before,
// no control process knows it.
func (n *Node) follow(ctx context.Context) {
	select {
	case <-n.listed:
		n.settler.follow(ctx, n.teller.settings)
	case <-ctx.Done():
	}
}

// roleOf is who the node is to the schema.
func (n *Node) roleOf() settings.Role {
	if n.gateway != nil {
		return settings.Stream
	}
	return settings.Mix
}

// subscribers are the parts of a node that settings change while it runs.
func (n *Node) subscribers() []settings.Subscriber {
	all := []settings.Subscriber{n.settings.subscriber(), logLevel(n.cfg.Level)}
	if r := n.strain.reporter; r != nil {
		all = append(all, settings.Subscriber{Name: "telemetry", Prepare: func(v settings.Values) (func(), func(), error) {
			return func() { r.SetSampling(int(v.Int(settings.TelemetrySampling, 0))) }, nil, nil
		}})
	}
	if n.gateway != nil {
		all = append(all, settings.Subscriber{Name: "admission and cover", Prepare: n.prepareLimits})
	}
	if n.cfg.Roles.Has(directory.RoleExit) {
		all = append(all, settings.Subscriber{Name: "exit", Prepare: n.prepareExit})
	}
	return all
}

func (n *Node) prepareLimits(v settings.Values) (commit, abandon func(), err error) {
	l := gateway.Limits{Limits: control.Limits{
		PerMinute: int(v.Int(settings.AdmissionPerMinute, 0)), Lifetime: v.Duration(settings.AdmissionLifetime, 0),
		RecordsMax: int(v.Int(settings.AdmissionRecordsMax, 0)),
	}, RateMax: uint16(v.Int(settings.CoverRateMax, 0))}
	return func() { n.host.Do(func(now machine.Time) { n.gateway.HandleLimits(now, l) }) }, nil, nil
}

// prepareExit makes the exit's policy, and has the descriptor say it.
func (n *Node) prepareExit(v settings.Values) (commit, abandon func(), err error) {
	policy := n.cfg.Exit
	policy.Private = v.Truth(settings.ExitAllowPrivate, policy.Private)
	if text := v[settings.ExitPorts]; text != "" {
		ports, err := settings.ParsePorts(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", settings.ExitPorts, err)
		}
		policy.Ports = nil
		for _, p := range ports {
			policy.Ports = append(policy.Ports, directory.PortRange{First: p.First, Last: p.Last})
		}
	}
	return func() {
		before := n.opens.Swap(&policy)
		n.exit.SetPolicy(exit.Policy{AllowPrivate: policy.Private, Ports: policy.Allows})
		if before != nil && before.Private == policy.Private && slices.Equal(before.Ports, policy.Ports) {
			return
		}
		select {
		case n.changed <- struct{}{}:
		default: // a descriptor is about to be made
		}
	}, nil, nil
}

// logLevel is the log of a process; nil: it has none that changes.
func logLevel(level *slog.LevelVar) settings.Subscriber {
	if level == nil {
		level = new(slog.LevelVar)
	}
	own := level.Level()
	return settings.Subscriber{Name: "log", Prepare: func(v settings.Values) (func(), func(), error) {
		to := own
		if text := v[settings.LogLevel]; text != "" {
			if err := to.UnmarshalText([]byte(text)); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", settings.LogLevel, err)
			}
		}
		return func() { level.Set(to) }, nil, nil
	}}
}

// drainTime is how long a node that is told to stop serves on.
func (n *Node) drainTime(own time.Duration) time.Duration {
	return n.settings.Get().Duration(settings.RelayDrain, own)
}

// exitPolicy is what the descriptor says of an exit.
func (n *Node) exitPolicy() directory.ExitPolicy { return *cmp.Or(n.opens.Load(), &n.cfg.Exit) }

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/telemetry"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// ControlConfig is one process of the control plane.
type ControlConfig struct {
	Name   string // for people, and the actor of its own events
	Listen string // host:port
	// Key is what the certificate is for.
	Key *[front.KeySize]byte
	// Trust is by whom documents must be signed, Authorities are the URLs to fetch
	// them from: the nodes that they list may speak to the control plane.
	Trust       directory.Trust
	Authorities []string
	Poll        time.Duration // of the directory; 0: replicaPoll
	// StateDir is where all that it keeps is. Fresh says that the directory begins anew
	// with the process: what was seen of it before is no measure then.
	StateDir string
	Fresh    bool
	// Plane says which engines it runs on, for who opens them.
	Plane setup.ControlConfig
	// Bus and Store are the engines; they are closed with the Control.
	Bus   pipeline.Bus
	Store Store
	// Policy opens the engine of policies; it is opened under PolicySource, until the
	// configuration names another.
	Policy       OpenPolicy
	PolicySource string
	// Settings keeps the configuration of the network, and is closed with the Control;
	// nil: another process has it. Office elects the leader among those of one store;
	// nil: it is this process.
	Settings registry.Store
	Office   registry.Office
	// Operators is the address for operators on this machine; "" is none. OperatorFile is
	// written then: it says where, and what to show.
	Operators, OperatorFile string
	// Level is that of the log, which the configuration may change; nil: it may not.
	Level *slog.LevelVar
	// Routes are what else it serves, by pattern below controlPath, to nodes that
	// have introduced themselves.
	Routes map[string]func(w http.ResponseWriter, r *http.Request, from wire.NodeID)
	// Issuer issues unlinkable tokens; nil: it does not.
	Issuer *IssuerConfig
	// History becomes the configuration's, if it is not nil: for those who read it beside
	// the audit log.
	History *SettingsHistory
	// Others is how many control processes there are beside it, to which nodes may report
	// instead.
	Others int
	// Services are what runs beside it on the same store; they are closed with the
	// Control, before its engines.
	Services []Service
	// Spans takes what traces are made of (docs/telemetry.md); nil: nobody.
	Spans span.Recorder
	Log   *slog.Logger // nil: none

	listener net.Listener // for tests, in place of Listen
	client   *http.Client // for tests
}

// Store is a compliance store.
type Store interface {
	audit.Recorder
	Close() error
}

// Service is what a program runs beside a control process.
type Service interface {
	Close() error
	// WriteMetrics writes figures of a part.
	WriteMetrics(to *metric.Page, part string)
}

// Control is a running process of the control plane: it takes events of nodes on
// its bus and brings them to the compliance store, decides on admission, steers rates,
// and has the configuration of the network.
type Control struct {
	cfg      ControlConfig
	pump     pipeline.Pump
	server   *http.Server
	listener net.Listener
	pin      [seal.HashSize]byte // hash of the certificate's key
	known    guests
	feed     *feed // of the directory
	cancel   context.CancelFunc
	running  sync.WaitGroup
	log      *slog.Logger
	// recording ends for events of its own when its end takes too long (endMax).
	recording context.Context
	giveUp    context.CancelFunc
	health
	draw   *prng.Stream
	drawMu sync.Mutex
	counts controlCounts

	turned *tally[turnedAway]
	issuer *issuer // nil: none
	rates  *telemetry.Collector
	seen   sightings
	planMu sync.Mutex
	plans  obfs.Plans // of cover, as machines follow them

	bulletins  *listener                            // of the authorities
	conditions atomic.Pointer[directory.Conditions] // as they say; nil: not known

	policy    *policyDesk
	settings  *changes.Log  // nil: another process has the configuration
	desk      *SettingsDesk // likewise
	operators *http.Server  // nil: none
	served    answerTimes
}

// StartControl runs a control process. After an error the engines are the caller's to
// close.
func StartControl(cfg ControlConfig) (*Control, error) {
	c := &Control{cfg: cfg, log: logOrNone(cfg.Log), health: health{log: logOrNone(cfg.Log)}, draw: systemEntropy().Stream("control"), turned: newTally(turnedEvent)}
	c.recording, c.giveUp = context.WithCancel(context.Background())
	cert, err := front.Issue(cfg.Key, time.Now())
	if err == nil {
		c.pin, err = front.Pin(&cert)
	}
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if cfg.Issuer != nil {
		if c.issuer, err = openIssuer(*cfg.Issuer, time.Now(), c.log); err != nil {
			return nil, err
		}
	}
	c.known.authorities = cfg.Trust.Authorities
	c.pump = pipeline.Pump{Bus: cfg.Bus, Store: cfg.Store, Log: c.log}
	if cfg.Spans != nil {
		c.pump.Store = &tracedStore{cfg.Store, newTracer(cfg.Name, cfg.Spans)}
	}
	poll := cfg.Poll
	if poll == 0 {
		poll = replicaPoll
	}
	marks := cfg.StateDir
	if cfg.Fresh {
		marks = ""
	}
	c.feed, err = newFeed(feedConfig{
		trust: cfg.Trust, urls: cfg.Authorities, poll: poll, dir: marks, mark: "control.newest", client: cfg.client,
		deliver: c.see,
	})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if c.listener = cfg.listener; c.listener == nil {
		if c.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("control: cannot listen on %s: %w; stop what uses it or choose another address", cfg.Listen, err)
		}
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	if err = c.open(ctx); err == nil {
		err = c.followPlans(ctx)
	}
	if err != nil {
		c.cancel()
		c.listener.Close()
		return nil, errors.Join(fmt.Errorf("control: %w", err), c.shut())
	}
	c.policy.traced = newTracer(cfg.Name, cfg.Spans)
	c.rates = telemetry.NewCollector(time.Now(), c.known.listed)
	c.server = mirror.NewServer(c.handler())
	c.run(ctx)
	c.tell(audit.Event{Kind: audit.AdminAction, Action: "start", Subject: cfg.Name})
	return c, nil
}

// open opens the policy and the configuration side by side.
func (c *Control) open(ctx context.Context) error {
	opened := make(chan error, 1)
	go func() {
		var err error
		c.policy, err = newPolicyDesk(c.cfg.Policy, c.cfg.PolicySource, c.tell, c.log)
		opened <- err
	}()
	err := c.openSettings(ctx)
	return errors.Join(<-opened, err)
}

// run starts what goes on until ctx ends.
func (c *Control) run(ctx context.Context) {
	c.running.Go(func() {
		if err := mirror.Serve(c.server, c.listener, c.cfg.Key, func(why string) { c.turn(nodesDoor, why) }); !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("the control process does not serve", "why", err)
		}
	})
	c.running.Go(func() { c.feed.run(ctx, func(err error) { c.note(following, err) }) })
	c.running.Go(func() { c.pump.Run(ctx) })
	if c.issuer != nil {
		c.running.Go(func() { c.issuer.run(ctx, c.tell) })
	}
	c.running.Go(func() { c.keepRates(ctx) })
	c.running.Go(func() { c.keepCounts(ctx) })
	if c.desk != nil {
		c.running.Go(func() { c.lead(ctx) })
		c.running.Go(func() { c.followSettings(ctx) })
		c.running.Go(func() { c.desk.Share(ctx) })
	}
}

// URL is where nodes reach the process, with the hash of its key.
func (c *Control) URL() string {
	return mirror.Server{URL: "https://" + c.listener.Addr().String(), Pin: c.pin, Replica: true}.String()
}

// Record puts events of this process, or of who acts through it, on the bus; it is an
// audit.Recorder.
func (c *Control) Record(ctx context.Context, events ...audit.Event) error {
	var lanes [pipeline.NumLanes][]pipeline.Message
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
		l := pipeline.LaneOf(&events[i])
		lanes[l] = append(lanes[l], pipeline.Message{ID: events[i].ID, Payload: audit.Append(nil, &events[i])})
	}
	return c.publish(ctx, lanes)
}

func (c *Control) publish(ctx context.Context, lanes [pipeline.NumLanes][]pipeline.Message) error {
	for lane, messages := range lanes {
		if len(messages) == 0 {
			continue
		}
		n, err := c.cfg.Bus.Publish(ctx, pipeline.Lane(lane), messages...)
		c.counts.duplicates.Add(uint64(n))
		if err != nil {
			c.counts.refused.Add(uint64(len(messages)))
			return err
		}
		c.counts.taken.Add(uint64(len(messages) - n))
	}
	return nil
}

// tell records an event of the process itself, or logs that it cannot.
func (c *Control) tell(e audit.Event) {
	if err := c.record(e); err != nil {
		c.log.Error("an event of the control process is not recorded", "action", e.Action, "why", err)
	}
}

func (c *Control) record(e audit.Event) error {
	c.complete(&e)
	return c.recordOwn(e)
}

func (c *Control) complete(e *audit.Event) {
	c.drawMu.Lock()
	defer c.drawMu.Unlock()
	complete(e, c.cfg.Name, c.draw)
}

// recordOwn records events of the process itself, which are complete.
func (c *Control) recordOwn(events ...audit.Event) error {
	ctx, cancel := context.WithTimeout(c.recording, keepMax)
	defer cancel()
	return c.Record(ctx, events...)
}

// complete fills in what events have in common; actor is of those that name none.
func complete(e *audit.Event, actor string, draw *prng.Stream) {
	var drawn [10]byte
	draw.Read(drawn[:])
	e.Time, e.Actor, e.Count = time.Now().UTC().Truncate(time.Millisecond), cmp.Or(e.Actor, actor), max(e.Count, 1)
	e.ID = audit.NewID(e.Time, drawn)
}

// endMax bounds the time in which a process that ends waits for its bus to take its own
// last events: a cluster may be gone, and who stops a process waits 5 s.
const endMax = 2 * time.Second

// Close stops the process. What is on the bus stays there.
func (c *Control) Close() error {
	defer c.giveUp()
	defer time.AfterFunc(endMax, c.giveUp).Stop()
	err := c.server.Close()
	c.tellCounts()
	c.tell(audit.Event{Kind: audit.AdminAction, Action: "stop", Subject: c.cfg.Name})
	c.cancel()
	err = errors.Join(err, c.shut())
	for _, s := range c.cfg.Services {
		err = errors.Join(err, s.Close())
	}
	err = errors.Join(err, c.cfg.Bus.Close())
	if c.cfg.Store != nil {
		err = errors.Join(err, c.cfg.Store.Close())
	}
	if c.cfg.Settings != nil {
		err = errors.Join(err, c.cfg.Settings.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// shut ends what open has opened, and waits for all that runs; ctx has ended.
func (c *Control) shut() (err error) {
	if c.operators != nil {
		err = c.operators.Close()
	}
	if c.settings != nil {
		c.settings.Close()
	}
	if c.policy != nil {
		c.policy.close()
	}
	c.running.Wait()
	return err
}

func (c *Control) part() part {
	p := newPart(c.cfg.Name, trace.Counts{}, c.Err())
	p.control = c
	if c.desk != nil {
		p.desk = c.desk.figures()
	}
	return p
}

package daemon

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/telemetry/span"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// How a probe goes through the network (docs/telemetry.md, Probes):
//
//  1. prober.run: at a moment drawn, a Stream node makes itself a client, on a socket of
//     its own, which enters by the node and has its copy of the directory.
//  2. probing.note: the client's SESSION_INIT has a nonce, which the prober keeps before
//     the datagram leaves. By it, and by nothing else, the node's machine knows the
//     session (prober.own): nobody can have that of another known, and no datagram shows it.
//  3. Node.decide: the decision of that session is asked for anew, in a request of its own
//     with the name of the trace in its head; the control process writes its span of it.
//  4. prober.exchange: over the session the prober asks another Stream node for a
//     descriptor that nobody has laid down, as any client may.
//  5. probing.spans: what was noted becomes spans.

// ProbeConfig is how a Stream node probes its network.
type ProbeConfig struct {
	// Every is the mean time between two probes; 0: there are none.
	Every time.Duration
	// Level is that of the probes' sessions.
	Level wire.Level
}

// probeTimeout bounds a probe: a user would have given up.
const probeTimeout = 20 * time.Second

// prober probes the network from one Stream node, one probe at a time. What it is told by
// machines it takes under its lock, for as long as it takes to note it.
type prober struct {
	node  *Node
	cfg   ProbeConfig
	rng   prng.Source
	draw  *prng.Stream
	spans span.Recorder // nil: spans are not kept

	timeout time.Duration
	failing bool // the last probe was; of run alone

	mu      sync.Mutex
	now     *probing // under way; nil: none
	figures probeFigures
}

// probeFigures are what probes have found.
type probeFigures struct {
	asked, answered uint64
	latency         trace.Values // of the exchange, µs
}

// newProber returns the prober of a Stream node, or nil if it is to have none.
func newProber(n *Node, cfg ProbeConfig, spans span.Recorder, rng prng.Source) *prober {
	if cfg.Every == 0 || !n.cfg.Roles.Has(directory.RoleEntry) || n.cfg.PassesRequired {
		return nil // probes have no unlinkable tokens
	}
	return &prober{node: n, cfg: cfg, rng: rng, draw: rng.Stream("when"), spans: spans, timeout: probeTimeout}
}

// probe gives the node its prober, and returns by what its machine knows the probes and
// whom it tells of them; nil: it has none.
func (n *Node) probe(rng prng.Source) (own func([16]byte) bool, steps trace.Sink) {
	if n.prober = newProber(n, n.cfg.Probe, n.cfg.Spans, rng); n.prober == nil {
		return nil, nil
	}
	return n.prober.own, n.prober.step
}

// own reports whether a nonce is of the probe that is under way. It is called by the
// node's machine, for each SESSION_INIT.
func (p *prober) own(nonce [16]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now != nil && p.now.begun && p.now.nonce == nonce
}

// step hears of a step at the entry.
func (p *prober) step(e trace.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		p.now.stamp(e)
	}
}

// check finds the question of the probe under way among those of a round, if it waits for
// a decision, and has the POLICY_CHECK of that one name the span that it is a part of. at
// is -1 where there is none.
func (p *prober) check(ctx context.Context, questions []control.Question) (traced context.Context, at int) {
	if p == nil {
		return ctx, -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil || p.now.at[trace.StepCame].IsZero() || !p.now.at[trace.StepDecided].IsZero() {
		return ctx, -1
	}
	own := control.QuestionAt(int(p.now.said[trace.StepCame]))
	return span.With(ctx, span.Context{Trace: p.now.trace, Span: p.now.check}), slices.Index(questions, own)
}

// run probes from when the directory lists the node until ctx ends.
func (p *prober) run(ctx context.Context) {
	select {
	case <-p.node.listed:
	case <-ctx.Done():
		return
	}
	wait := p.part(p.cfg.Every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p.probe(ctx)
		wait = p.cfg.Every/2 + p.part(p.cfg.Every)
	}
}

func (p *prober) part(of time.Duration) time.Duration {
	return time.Duration(p.draw.Uint64N(uint64(max(of, 1))))
}

// probe makes one probe, and counts what became of it. One that the node's own end cuts
// off is not counted.
func (p *prober) probe(ctx context.Context) {
	exit, view, err := p.target()
	if err != nil {
		p.say(err)
		return
	}
	probe := newProbing(p.draw)
	p.mu.Lock()
	p.now = probe
	p.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	took, err := p.exchange(bounded, probe, view, exit)
	outcome, cut := "ok", ctx.Err() != nil
	switch {
	case cut:
		outcome = "cut off"
	case err != nil:
		outcome = "failed"
	}
	p.mu.Lock()
	if p.now = nil; !cut {
		p.figures.note(took, err)
	}
	p.mu.Unlock() // the node's machine waits for it
	if !cut {
		p.say(err)
	}
	if p.spans != nil {
		for _, s := range probe.spans(p, exit, outcome) {
			p.spans.Record(s)
		}
	}
}

func (f *probeFigures) note(took time.Duration, err error) {
	if f.asked++; err == nil {
		f.answered++
		f.latency.Observe(uint64(took / time.Microsecond))
	}
}

// say logs what is new of probes. What they find is of the network, and no fault of the
// node's own.
func (p *prober) say(err error) {
	switch failing := err != nil; {
	case failing && !p.failing:
		p.node.log.Warn("a probe found no way through the network", "why", err)
	case !failing && p.failing:
		p.node.log.Info("probes find their way through the network again")
	}
	p.failing = err != nil
}

var errNobodyToProbe = errors.New("the directory lists no other Stream node to probe")

// target draws another Stream node, all that serve alike, from the node's own copy of the
// directory.
func (p *prober) target() (exit wire.NodeID, view *directory.View, err error) {
	p.node.host.Do(func(machine.Time) { view = p.node.view.Clone() })
	var others []wire.NodeID
	for i := range view.Len() {
		if n := view.At(i); n.ID != p.node.id && n.Roles.Has(directory.RoleExit) && n.Capacity > 0 {
			others = append(others, n.ID)
		}
	}
	if len(others) == 0 {
		return exit, nil, errNobodyToProbe
	}
	return others[p.draw.Uint64N(uint64(len(others)))], view, nil
}

// exchange opens a session to a Stream node, asks it for what is not there, and returns
// how long the answer took.
func (p *prober) exchange(ctx context.Context, probe *probing, view *directory.View, exit wire.NodeID) (took time.Duration, err error) {
	hear := func(e trace.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		probe.hear(e)
	}
	c, err := newProbeClient(client.Config{
		Level: p.cfg.Level, Ahead: -1, Entry: p.node.id, NetworkKey: p.node.cfg.Policy.NetworkKey, Steps: hear,
		Stream: stream.Config{Sink: hear, KEM: p.node.cfg.Stream.KEM},
	}, p.node.cfg.Clock, p.rng.Child(hex.EncodeToString(probe.trace[:])))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.host.Do(func(now machine.Time) { c.core.SetView(now, view) })
	select {
	case err := <-probe.admission:
		if err != nil {
			return 0, err
		}
	case <-ctx.Done():
		return 0, errors.New("the entry does not answer")
	}
	conn, _, err := c.keeperConn(ctx, "probe", exit)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var index service.Index
	p.draw.Read(index[:])
	begun := time.Now()
	if _, err := conn.Write(append([]byte{keeperGet}, index[:]...)); err != nil {
		return 0, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return 0, err
	}
	if n := binary.BigEndian.Uint16(size[:]); n != 0 {
		return 0, fmt.Errorf("%d bytes lie where nobody has laid down any", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	probe.answered = time.Now()
	return probe.answered.Sub(begun), nil
}

// newProbeClient returns a client that has what it is given alone: it follows no
// directory, no bulletins and no plans.
func newProbeClient(cfg client.Config, clock *drive.Clock, rng prng.Source) (*Client, error) {
	cfg.Stream.UnixStart = clock.At(0).Unix()
	c := &Client{ready: make(chan struct{}), opening: map[session.Ref]opening{}, until: map[[32]byte]int64{}, cancel: func() {}}
	c.core = client.New(cfg, rng)
	c.side = tunnel.NewSide(c.core, func(in *tunnel.Conn) { in.Reset() })
	conn, err := udp.Listen(netip.AddrPort{}, udp.Options{})
	if err != nil {
		return nil, err
	}
	if c.host, err = drive.Start(drive.Config{Name: "probe", Machine: c.core, Carrier: conn, Clock: clock, AfterRound: c.afterRound}); err != nil {
		conn.Close()
		return nil, err
	}
	c.side.Attach(c.host)
	return c, nil
}

// probing is one probe. It is under the prober's lock while it is under way.
type probing struct {
	trace     span.TraceID
	check     span.ID // of POLICY_CHECK, which the control process is told
	draw      *prng.Stream
	start     time.Time
	nonce     [16]byte
	begun     bool // there is a nonce
	at        [trace.NumKinds]time.Time
	said      [trace.NumKinds]uint64 // of each kind's first event, A
	answered  time.Time              // the question
	admission chan error             // has what became of the SESSION_INIT
}

func newProbing(draw *prng.Stream) *probing {
	b := &probing{draw: draw, start: time.Now(), admission: make(chan error, 1)}
	draw.Read(b.trace[:])
	b.check = b.id()
	return b
}

func (b *probing) id() (id span.ID) {
	b.draw.Read(id[:])
	return id
}

// stamp notes when the first event of a kind was heard of: the machine's own time stands
// still while it draws a route.
func (b *probing) stamp(e trace.Event) {
	if b.at[e.Kind].IsZero() {
		b.at[e.Kind], b.said[e.Kind] = time.Now(), e.A
	}
}

// hear hears of a step at the client.
func (b *probing) hear(e trace.Event) {
	b.stamp(e)
	switch e.Kind {
	case trace.StepInit:
		binary.BigEndian.PutUint64(b.nonce[:], e.A)
		binary.BigEndian.PutUint64(b.nonce[8:], e.B)
		b.begun = true
	case trace.StepGranted:
		b.admitted(nil)
	case trace.StepDenied:
		b.admitted(fmt.Errorf("the entry refuses the session: %v", wire.Refusal(e.A)))
	}
}

func (b *probing) admitted(err error) {
	select {
	case b.admission <- err:
	default: // it was said before
	}
}

// spans are what the node knows of a probe.
func (b *probing) spans(p *prober, exit wire.NodeID, outcome string) []span.Span {
	end := time.Now()
	name := p.node.cfg.Name
	root := span.Span{Trace: b.trace, ID: b.id(), Name: span.Probe, Process: name, Begin: b.start, End: end,
		Attributes: span.Attributes{span.Level: p.cfg.Level.String(), span.Exit: hex.EncodeToString(exit[:]), span.Outcome: outcome}}
	out := []span.Span{root}
	part := func(name span.Name, of span.ID, begin, until time.Time, a span.Attributes) span.ID {
		if begin.IsZero() {
			return of
		}
		if until.IsZero() {
			until, a = end, span.Attributes{span.Outcome: "unanswered"}
		}
		s := span.Span{Trace: b.trace, ID: b.id(), Parent: of, Name: name, Process: root.Process, Begin: begin, End: until, Attributes: a}
		if name == span.PolicyCheck {
			s.ID = b.check
		}
		out = append(out, s)
		return s.ID
	}
	number := func(k trace.Kind) string { return strconv.FormatUint(b.said[k], 10) }
	at := &b.at
	admitted := at[trace.StepGranted]
	if admitted.IsZero() {
		admitted = at[trace.StepDenied]
	}
	init := part(span.SessionInit, root.ID, at[trace.StepInit], admitted, nil)
	by := "control"
	if p.node.checks.ask == nil {
		by = "entry"
	}
	check := part(span.PolicyCheck, init, at[trace.StepCame], at[trace.StepDecided], span.Attributes{span.By: by, span.Region: p.node.cfg.Region})
	if by == "entry" {
		part(verdict(b.said[trace.StepDecided] == 0), check, at[trace.StepDecided], at[trace.StepDecided], nil)
	}
	request := part(span.RouteRequest, root.ID, at[trace.StepRequest], at[trace.StepPlan], nil)
	query := part(span.NodeQuery, request, at[trace.StepQuery], at[trace.StepResponse], span.Attributes{span.Epoch: number(trace.StepQuery)})
	part(span.NodeResponse, query, at[trace.StepResponse], at[trace.StepResponse], span.Attributes{span.Nodes: number(trace.StepResponse)})
	part(span.RoutePlan, request, at[trace.StepResponse], at[trace.StepPlan], span.Attributes{span.Hops: number(trace.StepPlan)})
	part(span.SessionReady, root.ID, at[trace.StepPlan], at[trace.SessionUp], nil)
	part(span.FrameExchange, root.ID, at[trace.SessionUp], b.answered, nil)
	return out
}

// verdict is the name of a decision.
func verdict(accepted bool) span.Name {
	if accepted {
		return span.PolicyAccept
	}
	return span.PolicyRefuse
}

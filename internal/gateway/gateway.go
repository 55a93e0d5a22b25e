// Package gateway is the Stream node: the entry that admits a client's
// session, the exit that ends routes and sessions, and the meeting point that
// joins two routes. It is also a hop.
//
// What a gateway keeps of a session dies with it; nothing that a session needs is
// shared between Stream nodes but the fleet key, under which session tokens and
// tickets are sealed.
package gateway

import (
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/hop"
	"github.com/nyxnet/nyx/internal/link"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/obfs"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/session"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Config is a gateway's identity, policy and surroundings.
type Config struct {
	Hop    hop.Config
	Policy control.Policy
	Fleet  *seal.Key     // shared by the Stream nodes of a fleet
	Stream stream.Config // of sessions that end here; Level is the route's
	// Class pins the emission class of every shaped route; 0 lets it move.
	Class obfs.Class
	// Moving has classes follow use where the level pins them: a control of tests.
	Moving bool
	// Region is the node's, as its descriptor has it.
	Region string
	// PlansUnchecked has every cover plan followed: see obfs.Plans.
	PlansUnchecked bool
	// Capacity is what the node can send, in datagrams per second, by which its guard
	// judges its load; 0: unknown.
	Capacity uint32
	// SessionsMax bounds the sessions that end here; 0 means 1,000,000.
	SessionsMax int
	// Records has the gateway tell what becomes of session records (PollRecords).
	Records bool
	Sink    trace.Sink
	// Own and Steps are of the probes of whoever owns the node: see control.Intake.
	Own   func(nonce [16]byte) bool
	Steps trace.Sink
}

const defaultSessionsMax = 1_000_000

// Gateway is a machine (see machine.Machine).
type Gateway struct {
	*hop.Hop
	*session.Set[ending]
	Distributions trace.Distributions // of sessions that end here
	// Guard slows admissions while the node is overloaded. Its owner may read it.
	Guard control.Guard

	cfg       Config
	rng       prng.Source
	admission *control.Admission
	intake    *control.Intake // before it
	changes   control.RecordChanges
	acceptor  *stream.Acceptor
	clients   map[link.ID][16]byte // whose the links are that were admitted once
	ends      map[mix.End]*end
	meetings  map[wire.MeetingID]*end
	slots     machine.Timers[*end]
	cover     obfs.Plans
	serial    uint64 // of ends, for their random streams
	playing   int    // cells that wait for their places
	packet    [wire.SessionPacketSize]byte
}

// ending is the exit's state of a session: the routes on which it came.
type ending struct {
	ends [stream.MaxPaths]*end
	seen machine.Time // the last packet from the client
}

// New returns a gateway.
func New(cfg Config, rng prng.Source) *Gateway {
	cfg.Hop.Clients, cfg.Hop.EndOfRoute = true, true
	if cfg.SessionsMax == 0 {
		cfg.SessionsMax = defaultSessionsMax
	}
	if cfg.Hop.ClientsMax == 0 {
		cfg.Hop.ClientsMax = cfg.SessionsMax
	}
	g := &Gateway{
		Hop:       hop.New(cfg.Hop, rng.Child("hop")),
		Set:       session.NewSet[ending](),
		Guard:     control.NewGuard(cfg.Capacity),
		cfg:       cfg,
		rng:       rng,
		admission: control.NewAdmission(cfg.Policy, cfg.Fleet, rng.Child("admission")),
		clients:   map[link.ID][16]byte{},
		ends:      map[mix.End]*end{},
		meetings:  map[wire.MeetingID]*end{},
		cover:     obfs.Plans{UnixStart: cfg.Stream.UnixStart, Unchecked: cfg.PlansUnchecked},
	}
	g.admission.Room = g.Guard.Admit
	g.intake = control.NewIntake(g.admission, rng.Child("intake"), &g.Counts)
	g.intake.Own, g.intake.Steps = cfg.Own, cfg.Steps
	g.intake.Latency = &g.Distributions[trace.SessionHandshake]
	g.cfg.Stream.Distributions = &g.Distributions
	g.acceptor = stream.NewAcceptor(g.cfg.Stream, rng.Child("sessions"))
	g.acceptor.Tickets = stream.NewTickets(cfg.Fleet, rng.Child("tickets"))
	if cfg.Records {
		g.keepRecords()
	}
	return g
}

// handleAdmission answers SESSION_INIT and SESSION_TERMINATE of a client.
func (g *Gateway) handleAdmission(now machine.Time, from link.ID, frame []byte) {
	m, ok := wire.ParseAdmission(frame)
	if !ok {
		g.Counts[trace.DropLinkMalformed]++
		return
	}
	switch m.Kind {
	case wire.AdmissionInit:
		// A link is one client's: otherwise one address could fill the records with
		// names that it makes up.
		if client, ok := g.clients[from]; ok && client != m.Init.ClientID {
			g.admitted(now, &control.Answer{By: control.Holder(from), Refused: wire.SessionRefused{Nonce: m.Init.Nonce, Reason: wire.RefusedPolicy}})
			return
		}
		g.intake.Handle(now, &m.Init, control.Holder(from))
		g.answerAll(now)
	case wire.AdmissionTerminate:
		// The link stays this client's: under another name it would have its
		// rate anew.
		if client, ok := g.clients[from]; ok && g.admission.Terminate(client, &m.Token) {
			g.cfg.Sink.Emit(now, trace.SessionClosed, 0, 0)
		}
	}
}

// answerAll says what the intake has to say.
func (g *Gateway) answerAll(now machine.Time) {
	for {
		a, ok := g.intake.PollAnswer()
		if !ok {
			return
		}
		g.admitted(now, &a)
	}
}

// admitted says what became of a SESSION_INIT.
func (g *Gateway) admitted(now machine.Time, a *control.Answer) {
	f := g.Pool.Get()
	if a.Refused.Reason != 0 {
		g.cfg.Sink.Emit(now, trace.SessionRefused, uint64(a.Refused.Reason), 0)
		a.Refused.Put(f)
	} else {
		g.cfg.Sink.Emit(now, trace.SessionInit, uint64(a.Ready.Version), 0)
		g.clients[link.ID(a.By)] = a.Client
		g.Links.Admit(link.ID(a.By))
		a.Ready.Put(f)
	}
	g.Links.Push(link.ID(a.By), f)
}

// PollCheck yields a POLICY_CHECK where admission is the control plane's to decide.
// Its answer is HandleDecision or HandleFault. The owner polls after each round.
func (g *Gateway) PollCheck(now machine.Time) (control.Question, bool) {
	return g.intake.PollCheck(now)
}

// HandleDecision takes the answer to a POLICY_CHECK.
func (g *Gateway) HandleDecision(now machine.Time, q control.Question, d control.Decision) {
	g.intake.HandleDecision(now, q, d)
	g.answerAll(now)
}

// HandleFault says that a POLICY_CHECK had no answer.
func (g *Gateway) HandleFault(now machine.Time, q control.Question) {
	g.intake.HandleFault(now, q)
	g.answerAll(now)
}

// PolicyChanged says that decisions made so far are to be asked for anew.
func (g *Gateway) PolicyChanged(now machine.Time) { g.intake.Decisions.Invalidate(now) }

// SetPassKeys takes the keys under which unlinkable tokens are taken, in place of those
// before.
func (g *Gateway) SetPassKeys(keys []control.PassKey) { g.intake.SetPassKeys(keys) }

// LoadSpent takes a token that was spent here in an earlier process.
func (g *Gateway) LoadSpent(s control.Spent) { g.intake.LoadSpent(s) }

// PollSpent yields the tokens that were spent, to be on record before what the round
// sends.
func (g *Gateway) PollSpent() (control.Spent, bool) { return g.intake.PollSpent() }

// handleLinkEvent releases what a vanished client held.
func (g *Gateway) handleLinkEvent(now machine.Time, ev link.Event) {
	if ev.Kind != link.Down {
		return
	}
	g.intake.Release(control.Holder(ev.Link))
	if client, ok := g.clients[ev.Link]; ok {
		delete(g.clients, ev.Link)
		g.admission.Release(client, control.Holder(ev.Link))
	}
}

// mayBuild reports whether set-ups from this link are taken: from nodes, and
// from clients that were admitted and whose record lives.
func (g *Gateway) mayBuild(from link.ID) bool {
	if _, identified, _ := g.Links.Peer(from); identified {
		return true
	}
	client, admitted := g.clients[from]
	return admitted && g.admission.Has(client)
}

// Params are what a gateway is told while it runs.
type Params struct {
	// Plan is a cover plan; nil: none.
	Plan *wire.CoverPlan
	// Wait is the longest that something waited for the machine's turn since it was
	// last said.
	Wait time.Duration
	// Alone says whether the node lacks the control plane; nil: as before.
	Alone *bool
}

// HandleParams takes what there is to be told. If it is a cover plan, it says why that
// is not followed, or 0.
func (g *Gateway) HandleParams(now machine.Time, p Params) (why obfs.Refusal) {
	if p.Alone != nil {
		g.Guard.Alone(*p.Alone)
	}
	if p.Plan != nil {
		why = g.cover.Offered(now, p.Plan, &g.Counts, g.cfg.Sink)
	}
	g.look(now, p.Wait)
	return why
}

// look has the guard look at the node.
func (g *Gateway) look(now machine.Time, wait time.Duration) {
	g.Guard.Observe(now, control.VitalsOf(&g.Counts, wait))
}

// PlansRefused counts cover plans that were not followed, by why.
func (g *Gateway) PlansRefused() [obfs.NumRefusals]uint64 { return g.cover.Refused }

// Reports are what the routes that end here emitted in the last minutes, by region.
func (g *Gateway) Reports(now machine.Time) []obfs.Report { return g.cover.Reports(now) }

// Stats returns the counters.
func (g *Gateway) Stats() trace.Counts {
	n := g.Counts
	n[trace.CoverStopped] = g.cover.Stopped()
	return n
}

// Routes is the number of routes that end here.
func (g *Gateway) Routes() int { return len(g.ends) }

// Admitted is the number of live session records.
func (g *Gateway) Admitted() int { return g.admission.Len() }

// RotateFleet replaces the fleet key. Tokens and tickets under the one before stay
// good.
func (g *Gateway) RotateFleet(now machine.Time, key *seal.Key) {
	g.admission.RotateFleet(key)
	g.acceptor.RotateTickets(now, key)
}

// Drain refuses new sessions; those that are here go on.
func (g *Gateway) Drain() { g.admission.Drain() }

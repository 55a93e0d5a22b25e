// Package span is what traces are made of: what was done, where, from when until when,
// and as a part of what. Processes write their own spans, and whoever reads puts those of
// one trace together.
//
// There are traces of three things only: of probes, which are sessions of an operator's
// own; of changes of the configuration; and of the events that tell of these. No session
// of a user has one, and no datagram carries anything of a trace (docs/telemetry.md,
// Traces). A span says nothing that has no place below: names, keys and what processes are
// called are the program's words, and a value is short.
package span

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// TraceID names a trace. The zero one is none.
type TraceID [16]byte

// ID names a span in its trace. The zero one is none: the parent of a root.
type ID [8]byte

// Context is a span as its parts in other processes name it.
type Context struct {
	Trace TraceID
	Span  ID
}

// Name is what was done.
type Name string

// Names of spans: the steps of the specification's sequence, what they are parts of, and
// how a change of the configuration travels.
const (
	Probe         Name = "probe"
	SessionInit   Name = "SESSION_INIT"   // from its sending until the answer
	PolicyCheck   Name = "POLICY_CHECK"   // at the entry, until there is a decision
	PolicyAccept  Name = "POLICY_ACCEPT"  // where it is made
	PolicyRefuse  Name = "POLICY_REFUSE"  // the same, of a refusal
	RouteRequest  Name = "ROUTE_REQUEST"  // until there is a path with its keys
	NodeQuery     Name = "NODE_QUERY"     // of the signed directory
	NodeResponse  Name = "NODE_RESPONSE"  // what it yields
	RoutePlan     Name = "ROUTE_PLAN"     // keys of the path, and the set-up
	SessionReady  Name = "SESSION_READY"  // from the use of the token until the session stands
	FrameExchange Name = "FRAME_EXCHANGE" // over the session, until a question has its answer

	ConfigChange Name = "CONFIG_CHANGE" // from when a change was accepted until it is there for nodes
	ConfigApply  Name = "CONFIG_APPLY"  // at one part, until it is in force
	AuditEvent   Name = "AUDIT_EVENT"   // from the event until it is in the compliance store
	StoreEvent   Name = "STORE_EVENT"   // in the compliance store
)

// Sequence is the set-up of a session, in the order of the specification.
var Sequence = []Name{SessionInit, PolicyCheck, PolicyAccept, RouteRequest, NodeQuery, NodeResponse, RoutePlan, SessionReady, FrameExchange}

// Key is what an attribute is of.
type Key string

// Keys of attributes.
const (
	Level    Key = "level"    // of anonymity
	Exit     Key = "exit"     // node id, of a probe
	Outcome  Key = "outcome"  // ok, failed, or cut off; of a step that has no end: unanswered
	Revision Key = "revision" // of a policy, or of the configuration
	Region   Key = "region"   // of an entry
	Epoch    Key = "epoch"    // of the directory
	Nodes    Key = "nodes"    // how many the directory has
	Hops     Key = "hops"
	By       Key = "by" // who decides: control, or the entry alone
	Event    Key = "event"
)

// ValueMax bounds the value of an attribute, in bytes: a node id in hexadecimal is 64.
const ValueMax = 64

// Attributes are what a span says beside its times.
type Attributes map[Key]string

// Span is one.
type Span struct {
	Trace      TraceID    `json:"trace"`
	ID         ID         `json:"span"`
	Parent     ID         `json:"parent,omitzero"`
	Name       Name       `json:"name"`
	Process    string     `json:"process"` // which part of the network
	Begin      time.Time  `json:"begin"`
	End        time.Time  `json:"end"`
	Attributes Attributes `json:"attributes,omitempty"`
}

// Recorder takes spans. It does not block, and is safe for concurrent use.
type Recorder interface{ Record(Span) }

// Recorders has several take each span.
type Recorders []Recorder

// Record implements Recorder.
func (r Recorders) Record(s Span) {
	for _, to := range r {
		to.Record(s)
	}
}

// Context is how parts of a span name it.
func (s *Span) Context() Context { return Context{s.Trace, s.ID} }

// Valid reports whether the context names a span.
func (c Context) Valid() bool { return c.Trace != TraceID{} && c.Span != ID{} }

var (
	names = slices.Concat([]Name{Probe, ConfigChange}, Sequence, []Name{PolicyRefuse, ConfigApply, AuditEvent, StoreEvent})
	keys  = []Key{Level, Exit, Outcome, Revision, Region, Epoch, Nodes, Hops, By, Event}
)

// Validate says what a span holds that has no place in one.
func (s *Span) Validate() error {
	if !s.Context().Valid() {
		return errors.New("a span without an id")
	}
	if !slices.Contains(names, s.Name) {
		return fmt.Errorf("a span has the name %.64q, which is none of the list", s.Name)
	}
	if len(s.Process) > ValueMax {
		return fmt.Errorf("a process has a name of %d bytes; at most %d are one", len(s.Process), ValueMax)
	}
	if s.End.Before(s.Begin) {
		return fmt.Errorf("span %s ends before it begins", s.Name)
	}
	for k, v := range s.Attributes {
		if !slices.Contains(keys, k) || len(v) > ValueMax {
			return fmt.Errorf("span %s has the attribute %.64q with %d bytes; it is not of the list, or longer than %d", s.Name, k, len(v), ValueMax)
		}
	}
	return nil
}

// MarshalText writes an id in hexadecimal, as traceparent has it.
func (t TraceID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (t *TraceID) UnmarshalText(b []byte) error { return unhex(t[:], b) }

func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// MarshalText writes an id in hexadecimal.
func (i ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, i[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (i *ID) UnmarshalText(b []byte) error { return unhex(i[:], b) }

func (i ID) String() string { return hex.EncodeToString(i[:]) }

func unhex(to, from []byte) error {
	if len(from) != 2*len(to) {
		return fmt.Errorf("an id of %d digits; %d are one", len(from), 2*len(to))
	}
	_, err := hex.Decode(to, from)
	return err
}

// Earlier orders spans by when they began, and those that began together by the order of
// the sequence.
func Earlier(a, b Span) int {
	return cmp.Or(a.Begin.Compare(b.Begin), cmp.Compare(slices.Index(names, a.Name), slices.Index(names, b.Name)))
}

package audit

import (
	"fmt"
	"slices"
)

// Kind says what an event is about. Numbers are part of the encoding: new kinds come
// at the end.
type Kind uint8

// Kinds.
const (
	AdminAction      Kind = 1 + iota // an operator did something
	ConfigChange                     // CONFIG_CHANGE: a revision was proposed, applied, rolled back
	PolicyClass                      // decisions of the policy, counted by class
	KeyEvent                         // a key was made, rotated, revoked, destroyed
	AdmissionRefusal                 // clients that were refused, counted by reason
	Incident                         // something that somebody must look at
	SessionTerminate                 // SESSION_TERMINATE, counted by reason
	AuditAccess                      // somebody read the audit log
	AuditExport                      // somebody took a copy of it
	Retention                        // days of the log were removed
	ControlElection                  // another node of the control plane leads
	numKinds
)

// kinds are the names of kinds and the keys of details that each allows. Values are
// names, numbers and digests, never what a client did or where to.
var kinds = [numKinds]struct {
	name string
	keys []string
}{
	AdminAction:      {"admin.action", []string{"command", "target_kind", "version", "previous", "digest", "ticket", "note", "role"}},
	ConfigChange:     {"config.change", []string{"revision", "previous", "digest", "stage", "effective_at", "message_id", "keys", "cause", "error", "share"}},
	PolicyClass:      {"policy.class", []string{"class", "bundle", "revision", "window", "decision", "cache"}},
	KeyEvent:         {"key.event", []string{"fingerprint", "algorithm", "generation", "previous", "expires", "purpose", "cause"}},
	AdmissionRefusal: {"admission.refusal", []string{"window", "class", "bundle", "code"}},
	Incident:         {"incident", []string{"summary", "metric", "value", "bound", "window", "component", "error", "runbook"}},
	SessionTerminate: {"session.terminate", []string{"window", "code", "class"}},
	AuditAccess:      {"audit.access", []string{"query", "rows", "role", "from", "to", "cursor", "token"}},
	AuditExport:      {"audit.export", []string{"format", "rows", "parts", "first", "last", "digest", "filter", "role"}},
	Retention:        {"retention", []string{"day", "count", "root"}},
	ControlElection:  {"control.election", []string{"leader", "previous", "term", "zone", "cause"}},
}

// Valid reports whether k is a kind of this version.
func (k Kind) Valid() bool { return k > 0 && k < numKinds }

// String returns the kind's name.
func (k Kind) String() string {
	if k.Valid() {
		return kinds[k].name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Keys lists the keys of details that events of the kind may have. It is shared.
func (k Kind) Keys() []string {
	if k.Valid() {
		return kinds[k].keys
	}
	return nil
}

// ParseKind finds a kind by its name.
func ParseKind(name string) (Kind, error) {
	for k := AdminAction; k < numKinds; k++ {
		if kinds[k].name == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w: there is no kind %q; kinds are %v", ErrEvent, name, KindNames())
}

// KindNames lists the names of all kinds.
func KindNames() (names []string) {
	for k := AdminAction; k < numKinds; k++ {
		names = append(names, kinds[k].name)
	}
	return names
}

// Severity orders events by how soon somebody must look.
type Severity uint8

// Severities.
const (
	Info     Severity = iota
	Notice            // worth a look some day
	Warning           // worth a look today
	Critical          // wakes somebody
	numSeverities
)

var severityNames = [numSeverities]string{"info", "notice", "warning", "critical"}

// Valid reports whether s is a severity.
func (s Severity) Valid() bool { return s < numSeverities }

// String returns the severity's name.
func (s Severity) String() string {
	if s.Valid() {
		return severityNames[s]
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// ParseSeverity finds a severity by its name.
func ParseSeverity(name string) (Severity, error) {
	if i := slices.Index(severityNames[:], name); i >= 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("%w: there is no severity %q; severities are %v", ErrEvent, name, severityNames)
}

// Outcome says how it came out.
type Outcome uint8

// Outcomes.
const (
	OK      Outcome = iota
	Refused         // by a rule
	Failed          // by a fault
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"ok", "refused", "failed"}

// Valid reports whether o is an outcome.
func (o Outcome) Valid() bool { return o < numOutcomes }

// String returns the outcome's name.
func (o Outcome) String() string {
	if o.Valid() {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// ParseOutcome finds an outcome by its name.
func ParseOutcome(name string) (Outcome, error) {
	if i := slices.Index(outcomeNames[:], name); i >= 0 {
		return Outcome(i), nil
	}
	return 0, fmt.Errorf("%w: there is no outcome %q; outcomes are %v", ErrEvent, name, outcomeNames)
}

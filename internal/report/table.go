package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nyxnet/nyx/internal/audit"
)

// A table counts events by three texts.
type table map[cell]*tally

type cell [3]string

type tally struct{ Events, Count uint64 }

const (
	// rowsOfDay bounds the rows of a table of a day: texts come from nodes and people,
	// and nobody may fill a report with them. What is beyond is counted as others.
	rowsOfDay = 500
	others    = "(others)"
)

// counted are the tables of a report, in its order, and of what events each is: of a
// kind, or of all where that is 0.
var counted = []struct {
	name, title string
	kind        audit.Kind
	head        [3]string
	of          func(*audit.Event) cell
}{
	{"events", "Events", 0, [3]string{"kind", "severity", "outcome"}, func(e *audit.Event) cell {
		return cell{e.Kind.String(), e.Severity.String(), e.Outcome.String()}
	}},
	{"actions", "Administrative actions", audit.AdminAction, [3]string{"actor", "action", "outcome"}, byActor},
	{"changes", "Changes of the configuration", audit.ConfigChange, [3]string{"actor", "action", "outcome"}, byActor},
	{"keys", "Keys", audit.KeyEvent, [3]string{"key", "action", "outcome"}, bySubject},
	{"refusals", "Clients that were refused", audit.AdmissionRefusal, [3]string{"reason", "node", "code"}, func(e *audit.Event) cell {
		return cell{e.Reason, e.Actor, e.Detail("code")}
	}},
	{"policy", "Decisions of the policy", audit.PolicyClass, [3]string{"class", "decision", "bundle"}, func(e *audit.Event) cell {
		return cell{e.Detail("class"), e.Detail("decision"), e.Detail("bundle")}
	}},
	{"sessions", "Sessions that ended", audit.SessionTerminate, [3]string{"reason", "action", "node"}, func(e *audit.Event) cell {
		return cell{e.Reason, e.Action, e.Actor}
	}},
	{"incidents", "Incidents", audit.Incident, [3]string{"incident", "severity", "node"}, func(e *audit.Event) cell {
		return cell{e.Action, e.Severity.String(), e.Actor}
	}},
	{"access", "Who read the audit log", audit.AuditAccess, [3]string{"actor", "read", "outcome"}, func(e *audit.Event) cell {
		return cell{e.Actor, e.Subject, e.Outcome.String()}
	}},
	{"exports", "Who took copies of it", audit.AuditExport, [3]string{"actor", "action", "outcome"}, byActor},
	{"elections", "Who led the control plane", audit.ControlElection, [3]string{"leader", "cause", "outcome"}, func(e *audit.Event) cell {
		return cell{e.Detail("leader"), e.Detail("cause"), e.Outcome.String()}
	}},
}

func byActor(e *audit.Event) cell   { return cell{e.Actor, e.Action, e.Outcome.String()} }
func bySubject(e *audit.Event) cell { return cell{e.Subject, e.Action, e.Outcome.String()} }

func (t table) add(c cell, v tally) {
	had := t[c]
	if had == nil {
		if len(t) >= rowsOfDay {
			c = cell{others}
			had = t[c]
		}
		if had == nil {
			had = &tally{}
			t[c] = had
		}
	}
	had.Events += v.Events
	had.Count += v.Count
}

// merge adds another table. A report's may have more rows than a day's.
func (t table) merge(o table) {
	for c, v := range o {
		had := t[c]
		if had == nil {
			had = &tally{}
			t[c] = had
		}
		had.Events += v.Events
		had.Count += v.Count
	}
}

// rows are those of the table, in order.
func (t table) rows() []Row {
	rows := make([]Row, 0, len(t))
	for c, v := range t {
		rows = append(rows, Row{Key: c[:], Events: v.Events, Count: v.Count})
	}
	slices.SortFunc(rows, func(a, b Row) int { return slices.Compare(a.Key, b.Key) })
	return rows
}

// shown are the rows that a report has: the most frequent, in order, and the sum of the
// others.
func (t table) shown(most int) []Row {
	rows := t.rows()
	if len(rows) <= most {
		return rows
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return -cmp.Compare(a.Count, b.Count) })
	rest := Row{Key: []string{fmt.Sprintf("%d others", len(rows)-most), "", ""}}
	for _, r := range rows[most:] {
		rest.Events += r.Events
		rest.Count += r.Count
	}
	rows = rows[:most]
	slices.SortFunc(rows, func(a, b Row) int { return slices.Compare(a.Key, b.Key) })
	return append(rows, rest)
}

// MarshalJSON writes the rows in order.
func (t table) MarshalJSON() ([]byte, error) { return json.Marshal(t.rows()) }

// UnmarshalJSON reads rows.
func (t *table) UnmarshalJSON(b []byte) error {
	var rows []Row
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	*t = table{}
	for _, r := range rows {
		if len(r.Key) != len(cell{}) {
			return fmt.Errorf("report: a row of %d texts", len(r.Key))
		}
		(*t)[cell(r.Key)] = &tally{r.Events, r.Count}
	}
	return nil
}

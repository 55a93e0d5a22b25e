package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ParseJSON reads an entry that AppendJSON has written. Its details come in the order
// of their keys.
func ParseJSON(b []byte) (Entry, error) {
	var said struct {
		Seq         int64             `json:"seq"`
		ID          string            `json:"id"`
		Time        time.Time         `json:"time"`
		Kind        string            `json:"kind"`
		Severity    string            `json:"severity"`
		Actor       string            `json:"actor"`
		Subject     string            `json:"subject"`
		Action      string            `json:"action"`
		Outcome     string            `json:"outcome"`
		Reason      string            `json:"reason"`
		Org         string            `json:"org"`
		Sensitivity uint8             `json:"sensitivity"`
		Count       uint64            `json:"count"`
		Details     map[string]string `json:"details"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return Entry{}, fmt.Errorf("%w: %v", ErrEvent, err)
	}
	e := Event{Time: said.Time, Actor: said.Actor, Subject: said.Subject, Action: said.Action, Reason: said.Reason, Org: said.Org, Sensitivity: said.Sensitivity, Count: said.Count}
	var err error
	if e.ID, err = ParseID(said.ID); err != nil {
		return Entry{}, err
	}
	if e.Kind, err = ParseKind(said.Kind); err != nil {
		return Entry{}, err
	}
	if e.Severity, err = ParseSeverity(said.Severity); err != nil {
		return Entry{}, err
	}
	if e.Outcome, err = ParseOutcome(said.Outcome); err != nil {
		return Entry{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(said.Details)) {
		e.Details = append(e.Details, Detail{key, said.Details[key]})
	}
	return Entry{Seq: said.Seq, Event: e}, e.Validate()
}

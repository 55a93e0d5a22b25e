package settings

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	// DeliveryMost bounds an encoded Delivery.
	DeliveryMost = snapshotMost + deliveredMost*ChangeMost
	// deliveredMost bounds the changes in one.
	deliveredMost = 256
)

// Delivery is what follows a revision: a state, if changes are no longer at hand, and
// changes.
type Delivery struct {
	State   *State
	Changes []Change
}

type delivered struct {
	State   json.RawMessage `json:"state,omitempty"`
	Changes []Change        `json:"changes,omitempty"`
}

// Encode writes a delivery as JSON.
func (d *Delivery) Encode() []byte {
	var w delivered
	if w.Changes = d.Changes; d.State != nil {
		w.State = d.State.Encode()
	}
	b, err := json.Marshal(w)
	if err != nil {
		panic("settings: a delivery that does not encode: " + err.Error())
	}
	return b
}

// ParseDelivery reads what Encode writes, and nothing else.
func ParseDelivery(b []byte) (d Delivery, err error) {
	var w delivered
	if err := parse(b, &w); err != nil {
		return d, fmt.Errorf("not a delivery of the configuration: %w", err)
	}
	if len(w.Changes) > deliveredMost {
		return d, fmt.Errorf("not a delivery of the configuration: %d changes", len(w.Changes))
	}
	for i := range w.Changes {
		if w.Changes[i].Revision == 0 {
			return d, errors.New("not a delivery of the configuration: a change without a revision")
		}
		if err := w.Changes[i].Validate(); err != nil {
			return d, err
		}
	}
	if len(w.State) > 0 {
		if d.State, err = ParseState(w.State); err != nil {
			return d, err
		}
	}
	d.Changes = w.Changes
	return d, nil
}

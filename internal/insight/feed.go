package insight

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// updatesKept bounds the updates that a feed has for who comes back. Each is whole: who
// was away for longer gets the next that there is, and lacks nothing but its history.
const updatesKept = 256

// Update is an INSIGHT_UPDATE: what is known of the present hour and day.
type Update struct {
	Type string `json:"type"` // "INSIGHT_UPDATE"
	// ID is how many entries of the log are in it: updates are in its order, and it
	// means the same in each process that has the log, and after a restart.
	ID   int64     `json:"id"`
	Time time.Time `json:"time"`
	// AgeMillis is how long ago the oldest event came about that is new in it.
	AgeMillis int64   `json:"age_ms"`
	Hour      Figures `json:"hour"`
	Day       Figures `json:"day"`
}

// Figures are of a span of time, by kind, severity and outcome of events.
type Figures struct {
	Start      time.Time        `json:"start"`
	Kinds      map[string]Tally `json:"kinds"`
	Severities map[string]Tally `json:"severities"`
	Outcomes   map[string]Tally `json:"outcomes"`
}

// Tally is a number of events, and for how many things they stand.
type Tally struct {
	Events uint64 `json:"events"`
	Count  uint64 `json:"count"`
}

const updateType = "INSIGHT_UPDATE"

// Feed hands updates to who waits for them. It is safe for concurrent use.
type Feed struct {
	mu    sync.Mutex
	kept  []Update
	grown chan struct{} // closed by the next update
}

// Publish adds an update. One that is not newer than the last takes its place.
func (f *Feed) Publish(u Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.kept); n > 0 && f.kept[n-1].ID >= u.ID {
		f.kept = f.kept[:n-1]
	}
	if len(f.kept) >= updatesKept {
		f.kept = append(f.kept[:0], f.kept[1:]...)
	}
	f.kept = append(f.kept, u)
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
}

// Next waits for the first update that is kept of those after an ID, and returns its
// ID and its JSON. An ID below 0 asks for the newest.
func (f *Feed) Next(ctx context.Context, after int64) (id int64, update []byte, err error) {
	for {
		f.mu.Lock()
		u, ok := f.first(after)
		if !ok && f.grown == nil {
			f.grown = make(chan struct{})
		}
		grown := f.grown
		f.mu.Unlock()
		if ok {
			if update, err = json.Marshal(u); err != nil {
				return 0, nil, fmt.Errorf("insight: %w", err)
			}
			return u.ID, update, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

func (f *Feed) first(after int64) (Update, bool) {
	if n := len(f.kept); after < 0 && n > 0 {
		return f.kept[n-1], true
	}
	for _, u := range f.kept {
		if u.ID > after {
			return u, true
		}
	}
	return Update{}, false
}

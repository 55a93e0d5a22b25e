package lab

import (
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
)

// laterKey is a key that the control plane learns in the course of DF-010, as with a
// new version: changes of it go through by themselves then.
const laterKey = "later.key"

// configDeadLetters is DF-010: some changes cannot be had, most for what they say and
// some for a key that is not there yet. They are kept, an operator is told and
// corrects what is wrong, and each goes through. Time is virtual.
func configDeadLetters(r *Run) error {
	draw := r.Source("letters").Stream("faults")
	gap := time.Duration(float64(time.Second) / r.Param("changes_per_second"))
	truth, schema := newConfigTruth(), settings.Network()
	later := settings.NewSchema(append(keysOf(schema), settings.Key{Name: laterKey, Kind: settings.Truth, Roles: settings.Control})...)
	total := r.Scaled("changes")
	learns := configEpoch.Add(r.Duration("learns_s", time.Second))
	node := newConfigNode()
	var dead settings.DeadLetters
	type correction struct {
		at  time.Time
		id  settings.ID
		set map[string]string
	}
	var corrections []correction
	buried := map[settings.ID]time.Time{}
	alerts, wrong, early := 0, 0, 0
	deliver := func(now time.Time, c settings.Change) error {
		known := schema
		if !now.Before(learns) {
			known = later
		}
		got, err := truth.accept(now, known, c)
		if err == nil {
			node.take(true, &got)
		}
		return err
	}
	try := func(now time.Time, c settings.Change) {
		err := deliver(now, c)
		if err == nil {
			if since, was := dead.Done(c.ID, true); was {
				r.Observe("config_redelivery", now.Sub(since).Seconds())
				delete(buried, c.ID)
			}
			return
		}
		if !dead.Bury(now, c, err) {
			return
		}
		alerts++
		buried[c.ID] = now
		if c.Set[laterKey] == "" {
			took := time.Duration(draw.Uint64N(uint64(r.Duration("operator_s", time.Second))))
			corrections = append(corrections, correction{now.Add(took).Truncate(time.Millisecond), c.ID, drawSet(draw)})
		}
	}
	const tick = 100 * time.Millisecond
	end := configEpoch.Add(time.Duration(total) * gap).Add(10 * time.Minute)
	sent := 0
	for now := configEpoch; now.Before(end) && (sent < total || dead.Len() > 0); now = now.Add(tick) {
		for ; sent < total && !configEpoch.Add(time.Duration(sent)*gap).After(now); sent++ {
			c := settings.Change{ID: configID(sent), Set: drawSet(draw), Actor: "lab"}
			switch share := uint64(r.Param("dead_share") * 1e6); {
			case draw.Chance(share * 4 / 5):
				c.Set = map[string]string{settings.AdmissionPerMinute: "many"}
				wrong++
			case now.Before(learns) && draw.Chance(share*2/5):
				c.Set = map[string]string{laterKey: "true"}
				early++
			}
			try(now, c)
		}
		corrections = slices.DeleteFunc(corrections, func(x correction) bool {
			if x.at.After(now) {
				return false
			}
			if r.Protected {
				dead.Correct(now, x.id, x.set)
			}
			return true
		})
		if next, ok := dead.Next(); r.Protected && ok && !next.After(now) {
			for _, c := range dead.Due(now) {
				try(now, c)
			}
		}
	}
	left := slices.SortedFunc(func(yield func(time.Time) bool) {
		for _, since := range buried {
			if !yield(since) {
				return
			}
		}
	}, time.Time.Compare)
	for _, since := range left { // never had: for as long as was watched
		r.Observe("config_redelivery", end.Sub(since).Seconds())
	}
	r.Observe("config_dead_letter_count", float64(dead.Count))
	r.Trial("operator_not_told", alerts != int(dead.Count))
	r.Trial("config_differs", node.receiver.State().Hash() != truth.state.Hash() || node.receiver.State().Revision() != uint64(total-len(left)))
	r.Note("%d changes, of which %d said something wrong and %d named a key that was not there yet; %d alerts", total, wrong, early, alerts)
	return nil
}

func keysOf(s *settings.Schema) (out []settings.Key) {
	for _, k := range s.Keys() {
		out = append(out, *k)
	}
	return out
}

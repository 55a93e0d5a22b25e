package console

import (
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry"
)

// alertsMost bounds the alerts of a page: who has more of them looks at the pages of
// what is meant.
const alertsMost = 20

// alert is something that somebody should look at: words of a key, with arguments.
type alert struct {
	State string // bad, warn, leaving
	key   string
	args  []any
}

// spoken is an alert in a language.
type spoken struct {
	State string `json:"state"`
	Text  string `json:"text"`
}

// alert finds what is to be looked at, the worst first.
func (f *figures) alert(p *telemetry.Picture) {
	var bad, warn []alert
	is := func(when bool, state, key string, args ...any) {
		switch {
		case when && state == "bad":
			bad = append(bad, alert{state, key, args})
		case when:
			warn = append(warn, alert{state, key, args})
		}
	}
	draining := map[string]bool{}
	for i := range p.Nodes {
		draining[p.Nodes[i].Name] = p.Nodes[i].Draining
	}
	for _, part := range p.Parts {
		is(part.Trouble != "" && !draining[part.Name], "bad", "alert.part", part.Name, part.Trouble)
	}
	is(f.LatencyMatters && f.P95 > p95Objective, "bad", "alert.latency", millis(f.P95), millis(p95Objective))
	is(f.Budget() <= 0, "bad", "alert.budget", grouped(f.Failed), grouped(f.Asked))
	is(f.Budget() > 0 && f.Budget() < 0.25, "warn", "alert.budget.low", percent(f.Budget()))
	is(f.Cover > coverLimit, "bad", "alert.cover", percent(f.Cover), percent(coverLimit))
	is(f.Cover > coverAlert && f.Cover <= coverLimit, "warn", "alert.cover", percent(f.Cover), percent(coverAlert))
	if d := p.Directory; d != nil {
		is(d.Evidence > 0, "bad", "alert.evidence", d.Evidence)
		is(d.ValidUntil.Sub(p.At) < staleDirectory && d.Epoch > 0, "bad", "alert.directory", d.ValidUntil.UTC().Format(time.TimeOnly))
		is(d.Log > d.Cosigned+1, "warn", "alert.cosigned", d.Log-d.Cosigned)
	}
	if k := p.Control; k != nil {
		is(k.Dead > 0, "warn", "alert.dead", k.Dead)
	}
	if fleet := p.Fleet; fleet != nil {
		is(len(fleet.Safe) > 0, "bad", "alert.safe", strings.Join(fleet.Safe, ", "))
		is(fleet.Alone > 0, "warn", "alert.alone", fleet.Alone)
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		is(n.Overloaded, "warn", "alert.overloaded", n.Name)
		is(n.Refused != 0, "warn", "alert.refused", n.Name, n.Refused)
		is(f.Loads[n.Name].Share > loadAlert, "warn", "alert.load", n.Name, percent(f.Loads[n.Name].Share))
		is(n.Draining, "leaving", "alert.leaving", n.Name)
	}
	f.Alerts = append(bad, warn...)
	if more := len(f.Alerts) - alertsMost; more > 0 {
		f.Alerts = append(f.Alerts[:alertsMost], alert{"warn", "alert.more", []any{more}})
	}
}

// spoken are the alerts in each language.
func (f *figures) spoken() map[string][]spoken {
	out := map[string][]spoken{}
	for _, lang := range languages {
		out[lang] = f.in(lang)
	}
	return out
}

func (f *figures) in(lang string) []spoken {
	said := []spoken{}
	for _, a := range f.Alerts {
		said = append(said, spoken{a.State, say(lang, a.key, a.args...)})
	}
	return said
}

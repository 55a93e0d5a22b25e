package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/engine/cache"
	"github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// endedLife is how long the states of ended sessions are kept, in seconds.
const endedLife = 1

// grownStates is DF-049: the state of each session grows from 1 KiB to 3, in a cache
// that has room for what is live and little else, and is looked up at regular times. A
// state that the cache has lost must come from the client, which counts as a round
// trip. In the control states are kept as they are and for ever.
func grownStates(r *Run) error {
	dir, err := os.MkdirTemp("", "nyx-lab-records-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sessions := r.Scaled("sessions")
	room := uint64(r.Param("cache_bytes_a_session")) * uint64(sessions)
	for _, phase := range []struct{ series, size string }{{"state_lookup_before", "metadata_before_bytes"}, {"stream_state_lookup_latency", "metadata_bytes"}} {
		store, err := sql.OpenRecords(context.Background(), filepath.Join(dir, phase.size+".db"))
		if err != nil {
			return err
		}
		kept, err := cache.NewLocal(room)
		if err != nil {
			store.Close()
			return err
		}
		g := &growing{run: r, sessions: sessions, size: int(r.Param(phase.size)), draw: r.Source(phase.size).Stream("states")}
		g.states = records.NewStates(store, &lasting{kept, !r.Protected}, &seal.Key{49})
		g.states.Plain = !r.Protected
		err = g.fill()
		if err == nil {
			err = g.look(phase.series)
		}
		kept.Close()
		store.Close()
		if err != nil {
			return err
		}
	}
	r.Note("%d live sessions and as many that have ended %g times over, in SQLite and a cache of %d MiB in the process; a state that is lost counts %g ms for the round trip to the client", sessions, r.Param("ended_for_each"), room>>20, r.Param("round_trip_ms"))
	return nil
}

// lasting is a cache whose values may last for ever.
type lasting struct {
	*cache.Local
	forever bool
}

func (c *lasting) Set(ctx context.Context, key string, value []byte, ttl time.Duration) {
	if c.forever {
		ttl = 24 * time.Hour
	}
	c.Local.Set(ctx, key, value, ttl)
}

// growing is one size of states.
type growing struct {
	run      *Run
	states   *records.States
	sessions int
	size     int
	draw     *prng.Stream
	live     []control.TokenHash
}

// fill keeps the states of sessions that end soon, and then of live ones.
func (g *growing) fill() error {
	ended := int(float64(g.sessions) * g.run.Param("ended_for_each"))
	if _, err := g.keep(ended, endedLife); err != nil {
		return err
	}
	time.Sleep(endedLife * time.Second)
	if _, err := g.states.Store.Expire(context.Background(), time.Now().Unix(), ended); err != nil {
		return err
	}
	var err error
	g.live, err = g.keep(g.sessions, 3600)
	return err
}

// keep keeps records and states of so many sessions for so many seconds.
func (g *growing) keep(many int, life int64) (tokens []control.TokenHash, err error) {
	const batch = 500
	for len(tokens) < many {
		now := time.Now().Unix()
		some := make([]control.SessionRecord, min(batch, many-len(tokens)))
		for i := range some {
			some[i].Version, some[i].Expires = 1, now+life
			g.draw.Read(some[i].Token[:])
			tokens = append(tokens, some[i].Token)
		}
		if _, err := g.states.Store.Create(context.Background(), some, now); err != nil {
			return nil, err
		}
		for _, r := range some {
			if err := g.states.Keep(context.Background(), r, g.metadata(), now); err != nil {
				return nil, err
			}
		}
	}
	return tokens, nil
}

// metadata is attributes of a session as text, of which about half is not to be
// foreseen.
func (g *growing) metadata() []byte {
	b := make([]byte, 0, g.size+64)
	for n := 0; len(b) < g.size; n++ {
		var drawn [8]byte
		g.draw.Read(drawn[:])
		b = fmt.Appendf(b, "attribute-%02d=%016x;", n%40, binary.BigEndian.Uint64(drawn[:]))
	}
	return b[:g.size]
}

// look looks live sessions up, each when it is due: a slow one makes those after it
// late.
func (g *growing) look(series string) error {
	r, lost := g.run, 0
	lookups := int(r.Param("lookups"))
	gap := time.Duration(float64(time.Second) / r.Param("lookups_per_second"))
	begun := time.Now()
	for i := range lookups {
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		_, state, err := g.states.Look(context.Background(), g.live[g.draw.IntN(len(g.live))], time.Now().Unix())
		if err != nil {
			return err
		}
		took := time.Since(due) // with what the generator is late
		if len(state) != g.size {
			lost++
			took += r.Duration("round_trip_ms", time.Millisecond)
		}
		r.ObserveTime(series, took)
	}
	measured, _ := g.states.Lookups()
	r.Note("%d bytes each: %d of %d states were lost; a look-up itself takes %d µs at the 95th of 100", g.size, lost, lookups, measured.Quantile(0.95))
	return nil
}

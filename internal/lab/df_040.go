package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// configStorm is DF-040: changes come faster than a store takes single ones. Each is
// measured from when it was due until a node has it. Some are urgent, and overtake.
func configStorm(r *Run) error {
	store := &slowStore{Store: registry.NewMemory(nil, nil), commit: r.Duration("commit_ms", time.Millisecond)}
	cfg := changes.Config{Store: store, Schema: settings.Network(), Now: time.Now}
	if !r.Protected {
		cfg.Batch = 1
	}
	log, err := changes.Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	gap := time.Duration(float64(time.Second) / r.Param("changes_per_second"))
	total := int(r.Param("seconds") * r.Scale * float64(time.Second) / float64(gap))
	s := &storm{due: make([]time.Time, total), got: make([]int, total), nodes: int(r.Param("nodes")), all: make(chan struct{})}
	var following, submitting sync.WaitGroup
	states := make([]*settings.Receiver, s.nodes)
	for i := range states {
		states[i] = settings.NewReceiver(&settings.State{})
		following.Go(func() { s.follow(ctx, log, states[i]) })
	}
	draw := r.Source("storm").Stream("sets")
	begun := time.Now()
	var failed sync.Map
	for i := range total {
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		s.begin(i, due)
		if i%100 == 0 {
			r.Observe("control_event_queue_depth", float64(log.Depth()))
		}
		one := changes.Submission{Change: settings.Change{ID: configID(i), Set: drawSet(draw), Actor: "lab"}, Urgent: i%50 == 0}
		submitting.Go(func() {
			if _, err := log.Submit(ctx, one); err != nil && ctx.Err() == nil {
				failed.Store(i, err)
			}
		})
	}
	offered := float64(total) / time.Since(begun).Seconds()
	select {
	case <-s.all:
	case <-time.After(r.Duration("wait_s", time.Second)):
	}
	stop()
	submitting.Wait()
	following.Wait()
	failed.Range(func(_, why any) bool { err = errors.Join(err, why.(error)); return true })
	if err != nil {
		return err
	}
	s.judge(r, time.Now())
	for i := range states {
		r.Trial("config_differs", states[i].State().Hash() != states[0].State().Hash() && r.Protected)
	}
	r.Note("%d changes at %.0f a second to %d nodes, over a store that takes %v for a transaction, of which it had %d", total, offered, s.nodes, store.commit, store.transactions)
	return nil
}

// storm is the changes of DF-040 on their way.
type storm struct {
	nodes int
	all   chan struct{} // closed when every node has every change

	mu    sync.Mutex
	due   []time.Time
	got   []int // nodes that have it
	took  []time.Duration
	quick []time.Duration // of the urgent ones
}

func (s *storm) begin(i int, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[i] = due
}

// follow is a node: it asks for what follows what it has.
func (s *storm) follow(ctx context.Context, log *changes.Log, node *settings.Receiver) {
	for {
		b, err := log.After(ctx, node.State().Revision())
		if err != nil {
			return
		}
		if b.State != nil {
			panic("lab: the storm is longer than what a log has at hand")
		}
		for i := range b.Changes {
			node.HandleChange(&b.Changes[i])
			s.has(b.Changes[i].ID)
		}
	}
}

func (s *storm) has(id settings.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := int(id[1])<<24 | int(id[2])<<16 | int(id[3])<<8 | int(id[4])
	if s.got[i]++; s.got[i] < s.nodes {
		return
	}
	took := time.Since(s.due[i])
	if s.took = append(s.took, took); i%50 == 0 {
		s.quick = append(s.quick, took)
	}
	if len(s.took) == len(s.got) {
		close(s.all)
	}
}

// judge observes each change: until the last node had it, or for as long as was
// watched.
func (s *storm) judge(r *Run, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.took {
		r.Observe("config_delivery", d.Seconds())
	}
	for _, d := range s.quick {
		r.ObserveTime("config_delivery_urgent", d)
	}
	for i, n := range s.got {
		if n < s.nodes {
			r.Observe("config_delivery", now.Sub(s.due[i]).Seconds())
		}
	}
}

// slowStore is a store whose transactions take as long as those of a cluster over
// several zones, one after the other.
type slowStore struct {
	registry.Store
	commit time.Duration

	mu           sync.Mutex
	transactions int
}

func (s *slowStore) Fill(ctx context.Context, entries []registry.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transactions++
	select {
	case <-time.After(s.commit):
	case <-ctx.Done():
		return fmt.Errorf("no commit: %w", ctx.Err())
	}
	return s.Store.Fill(ctx, entries)
}

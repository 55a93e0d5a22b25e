package lab

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/engine/etcd"
)

const (
	// writeMost bounds one write: what is not committed, for whatever reason, counts
	// with it at least.
	writeMost = 2 * time.Second
	// failOverMost bounds the wait for the next leader of the control plane.
	failOverMost = 20 * time.Second
)

// quorum is SCL-007: the control state's cluster of five processes, one of which is
// killed in the middle of writes: the one that leads the control plane. In the control
// the cluster has two, so that one of them is no quorum.
func quorum(r *Run) error {
	size := "members"
	if !r.Protected {
		size = "control_members"
	}
	c, err := startMembers(int(r.Param(size)))
	if err != nil {
		return err
	}
	defer c.stop()
	store, err := etcd.Cluster(c.urls, "/nyx/lab/", etcd.Files{})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Put(context.Background(), "first", nil, 0); err != nil { // the connections
		return err
	}
	gap := time.Duration(float64(time.Minute) / r.Param("writes_per_minute"))
	total := int(r.Param("seconds") * r.Scale * float64(time.Second) / float64(gap))
	took, acknowledged := make([]time.Duration, total), make([]bool, total)
	value := make([]byte, int(r.Param("bytes")))
	var writing sync.WaitGroup
	begun := time.Now()
	for i := range total {
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		if i == total/2 {
			writing.Go(func() { c.lose(r) })
		}
		writing.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), writeMost)
			defer cancel()
			_, err := store.Put(ctx, quorumKey(i), value, 0)
			if took[i], acknowledged[i] = time.Since(due), err == nil; err != nil {
				took[i] = max(took[i], writeMost) // an error is no quick commit
			}
		})
	}
	writing.Wait()
	offered := float64(total) / time.Since(begun).Minutes()
	done := 0
	for i := range total {
		r.ObserveTime("etcd_server_commit_duration", took[i])
		r.Trial("write_refused", !acknowledged[i])
		if acknowledged[i] {
			done++
		}
	}
	if r.Protected { // else nobody could answer
		for i := range total {
			if !acknowledged[i] {
				continue
			}
			e, err := store.Get(context.Background(), quorumKey(i))
			if err != nil {
				return err
			}
			r.Trial("acknowledged_lost", e.Revision == 0)
		}
	}
	r.Note("%d writes of %d bytes at %.0f a minute, %d of them acknowledged; %d members, processes of this machine with one disk", total, len(value), offered, done, len(c.all))
	return nil
}

func quorumKey(i int) string { return fmt.Sprintf("write/%06d", i) }

// lose kills the leader of the control plane and waits for the next one.
func (c *members) lose(r *Run) {
	leader := <-c.lead
	for len(c.lead) > 0 { // the office may have changed hands since
		leader = <-c.lead
	}
	killed := time.Now()
	leader.kill()
	select {
	case <-c.lead:
	case <-time.After(failOverMost):
	}
	r.Observe("control_failover", time.Since(killed).Seconds())
}

package daemon

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/wire"
)

// losable is a bus that can be lost: what is published then waits.
type losable struct {
	pipeline.Bus
	lost atomic.Bool
}

func (b *losable) Publish(ctx context.Context, l pipeline.Lane, m ...pipeline.Message) (int, error) {
	if !b.lost.Load() {
		return b.Bus.Publish(ctx, l, m...)
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestControlEndsWithoutBus: a process whose bus is gone ends in time all the same.
func TestControlEndsWithoutBus(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	bus := &losable{Bus: pipeline.NewMemory(pipeline.Limits{})}
	key := [front.KeySize]byte{7}
	c, err := StartControl(ControlConfig{Name: "control-1", Listen: "127.0.0.1:0", Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()},
		StateDir: t.TempDir(), Bus: bus, Store: newCompliance(), Settings: registry.NewMemory(nil, nil), Policy: (&decider{}).open})
	if err != nil {
		t.Fatal(err)
	}
	c.policy.classes.add(class{question: control.Question{}}, 1)
	bus.lost.Store(true)
	begun := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*endMax {
		t.Errorf("it took %v", took)
	}
}

// Package bus is a pipeline.Bus in NATS JetStream: a server in this process that
// listens nowhere, or a cluster that others run. A lane is a stream of which each
// message is processed once, the dead messages are a stream more. What is published
// is on the disk of the server, or of most servers of the cluster, when Publish
// returns: run a cluster with sync: always.
package bus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nyxnet/nyx/internal/pipeline"
)

const (
	// callTimeout bounds each call without a limit of its own. A fail-over of the
	// cluster takes less.
	callTimeout = 15 * time.Second
	// receiveWait is after how long Receive returns without a message.
	receiveWait = 2 * time.Second
	// publishersMost bounds the publishers that wait for the disk at a time; more
	// wait for their turn.
	publishersMost = 64
	// pendingMost bounds the deliveries of a lane that are being processed.
	pendingMost = 16384
	// deadMost bounds the dead messages. Where there are as many, the next stays in
	// its lane.
	deadMost = 1 << 16
)

// Bus is a pipeline.Bus in NATS.
type Bus struct {
	limits  pipeline.Limits
	name    string
	conn    *nats.Conn
	js      jetstream.JetStream
	lanes   [pipeline.NumLanes]lane
	dead    jetstream.Stream
	turns   chan struct{}
	server  *server.Server // nil: elsewhere
	release func()         // what else Close ends
}

type lane struct {
	stream   jetstream.Stream
	consumer jetstream.Consumer
}

// open makes or finds the streams.
func open(conn *nats.Conn, name string, replicas int, limits pipeline.Limits) (*Bus, error) {
	b := &Bus{limits: limits.WithDefaults(), name: name, conn: conn, turns: make(chan struct{}, publishersMost)}
	var err error
	if b.js, err = jetstream.New(conn); err != nil {
		return nil, failed(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for l := range pipeline.NumLanes {
		if b.lanes[l].stream, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: b.stream(l.String()), Subjects: []string{b.subject(l.String())}, Storage: jetstream.FileStorage, Replicas: replicas,
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxMsgs: b.limits.Messages, MaxBytes: b.limits.Bytes,
			Duplicates: b.limits.Window, AllowAtomicPublish: true,
		}); err != nil {
			return nil, failed(err)
		}
		if b.lanes[l].consumer, err = b.lanes[l].stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: "pump", AckPolicy: jetstream.AckExplicitPolicy, AckWait: b.limits.Patience, MaxDeliver: -1, MaxAckPending: pendingMost,
		}); err != nil {
			return nil, failed(err)
		}
	}
	b.dead, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: b.stream(deadName), Subjects: []string{b.subject(deadName)}, Storage: jetstream.FileStorage, Replicas: replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: deadMost, Duplicates: b.limits.Window,
	})
	if err != nil {
		return nil, failed(err)
	}
	return b, nil
}

func (b *Bus) stream(part string) string  { return b.name + "-" + part }
func (b *Bus) subject(part string) string { return b.name + "." + part }

// failed says whose failure it is, and makes one of a full stream ErrFull.
func failed(err error) error {
	if err == nil {
		return nil
	}
	if s := err.Error(); strings.Contains(s, "maximum messages exceeded") || strings.Contains(s, "maximum bytes exceeded") {
		return pipeline.ErrFull
	}
	return fmt.Errorf("bus: %w", err)
}

// message is a message as NATS has it. An ID that was published within the window
// is taken once; life tells those of one message apart that was buried and
// requeued.
func (b *Bus) message(part string, m *pipeline.Message, life string) *nats.Msg {
	out := nats.NewMsg(b.subject(part))
	out.Data = m.Payload
	out.Header.Set(jetstream.MsgIDHeader, hex.EncodeToString(m.ID[:])+life)
	return out
}

// idOf reads what message has written.
func idOf(h nats.Header) (id [16]byte) {
	if s := h.Get(jetstream.MsgIDHeader); len(s) >= 2*len(id) {
		hex.Decode(id[:], []byte(s[:2*len(id)]))
	}
	return id
}

// Depth implements pipeline.Bus.
func (b *Bus) Depth(ctx context.Context) (d pipeline.Depth, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for l := range b.lanes {
		info, err := b.lanes[l].stream.Info(ctx)
		if err != nil {
			return d, failed(err)
		}
		d.Waiting[l] = info.State.Msgs
	}
	info, err := b.dead.Info(ctx)
	if err != nil {
		return d, failed(err)
	}
	d.Dead = info.State.Msgs
	return d, nil
}

// Close implements pipeline.Bus.
func (b *Bus) Close() error {
	err := b.conn.FlushTimeout(time.Second)
	b.conn.Close()
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.release != nil {
		b.release()
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		err = nil
	}
	return err
}

// Package pipeline is the way of an audit event from where it arose to the
// compliance store:
//
//	node: Outbox ── batch over HTTP ──▶ control: Bus ── Pump ──▶ store
//
// At each step an event is given up only when the next one has it on its disk. So
// it can come twice and cannot be lost; the store knows by its ID what it has.
// Whatever waits is bounded: a full bus says so to who publishes, and what it does
// not take stays in the outbox.
package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

var (
	// ErrFull is a bus at its limit: nothing of what was published was taken, and
	// nothing that it held was dropped. Come again later.
	ErrFull = errors.New("the bus is full; what is published waits with who has it")
	// ErrSize is a message that no bus takes.
	ErrSize = errors.New("the message is larger than a bus takes")
)

// PayloadMost bounds a message, in bytes: above the largest event.
const PayloadMost = 8 << 10

// Lane is a queue of its own in a bus. None waits for another.
type Lane uint8

// Lanes.
const (
	// Incidents overtake everything else.
	Incidents Lane = iota
	Ordinary
	NumLanes
)

var laneNames = [NumLanes]string{"incidents", "ordinary"}

// String is the name as metrics have it.
func (l Lane) String() string {
	if l < NumLanes {
		return laneNames[l]
	}
	return "unknown"
}

// LaneOf is the lane of an event.
func LaneOf(e *audit.Event) Lane {
	if e.Kind == audit.Incident || e.Severity == audit.Critical {
		return Incidents
	}
	return Ordinary
}

// Message is what a bus carries.
type Message struct {
	// ID is told apart: of messages with one ID that are published within the
	// bus's window, one is delivered.
	ID [16]byte
	// Payload is at most PayloadMost bytes. It is shared: do not change it.
	Payload []byte
}

// Delivery is a message on its way to who processes it. It comes again if it is
// not settled, returned or buried within the bus's patience since it was received
// or last held.
type Delivery struct {
	Message
	Lane Lane
	// Taken is when the bus took it.
	Taken time.Time
	// Tries counts its deliveries; 1 at first.
	Tries int
	// Token is the bus's own.
	Token any
}

// Dead is a message that is delivered no more.
type Dead struct {
	Message
	Lane   Lane
	Reason string
	Died   time.Time
}

// Depth is how many messages a bus holds.
type Depth struct {
	Waiting [NumLanes]uint64 // those that are being processed included
	Dead    uint64
}

// Bus is a queue on disk. All methods are safe for concurrent use.
type Bus interface {
	// Publish puts messages into a lane. It returns nil when all are on disk, of a
	// cluster on most of its disks; duplicates are those that were there before.
	// After an error some may be there; publish all again, as often as it takes.
	Publish(ctx context.Context, lane Lane, messages ...Message) (duplicates int, err error)
	// Receive waits for messages of a lane and returns 1 to most of them, the
	// oldest first; none if for some seconds none came. The last try of a message
	// is Limits.Tries: after it, the bus buries it.
	Receive(ctx context.Context, lane Lane, most int) ([]Delivery, error)
	// Settle ends deliveries whose messages are where they shall be.
	Settle(ctx context.Context, done ...Delivery) error
	// Hold says that deliveries are still being processed.
	Hold(ctx context.Context, held ...Delivery) error
	// Return gives deliveries back, to be delivered again.
	Return(ctx context.Context, back ...Delivery) error
	// Bury makes a message a dead one.
	Bury(ctx context.Context, d Delivery, reason string) error
	// Dead lists dead messages, the oldest first.
	Dead(ctx context.Context, most int) ([]Dead, error)
	// Requeue has dead messages delivered again, all that have one of these IDs,
	// and returns how many there were. It tells no duplicates: the message was
	// there before.
	Requeue(ctx context.Context, ids ...[16]byte) (int, error)
	// Depth counts what the bus holds; in a cluster, as it was a moment ago.
	Depth(ctx context.Context) (Depth, error)
	Close() error
}

// Limits are those of a bus. Zero fields mean the defaults.
type Limits struct {
	// Messages and Bytes bound each lane.
	Messages, Bytes int64
	// Tries is how often a message is delivered before it is buried.
	Tries int
	// Patience is how long a delivery may be processed without a word.
	Patience time.Duration
	// Window is for how long a published ID is remembered.
	Window time.Duration
}

// Defaults of a bus.
const (
	defaultMessages = 1 << 20
	defaultBytes    = 1 << 30
	defaultTries    = 10
	defaultPatience = 5 * time.Second
	defaultWindow   = 5 * time.Minute
	// receiveWait is after how long Receive returns without a message.
	receiveWait = 2 * time.Second
)

// WithDefaults returns the limits with no field zero.
func (l Limits) WithDefaults() Limits {
	if l.Messages == 0 {
		l.Messages = defaultMessages
	}
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	if l.Tries == 0 {
		l.Tries = defaultTries
	}
	if l.Patience == 0 {
		l.Patience = defaultPatience
	}
	if l.Window == 0 {
		l.Window = defaultWindow
	}
	return l
}

// CheckSize returns ErrSize if one of the messages is too large.
func CheckSize(messages []Message) error {
	for i := range messages {
		if len(messages[i].Payload) > PayloadMost {
			return ErrSize
		}
	}
	return nil
}

// Await is the waiting of a Receive: it takes until there is something, and after each
// time until grown is closed, until next, if that is not zero, or for receiveWait in all.
func Await(ctx context.Context, take func() (out []Delivery, grown <-chan struct{}, next time.Time, err error)) ([]Delivery, error) {
	limit := time.NewTimer(receiveWait)
	defer limit.Stop()
	for {
		out, grown, next, err := take()
		if err != nil || len(out) > 0 {
			return out, err
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, nil
		case <-grown:
		case <-due:
		}
	}
}

package stream

import (
	"errors"
	"fmt"

	"github.com/nyxnet/nyx/internal/wire"
)

// Errors of the application's calls.
var (
	// ErrWouldBlock means that nothing can be read or taken now; an event will
	// say when.
	ErrWouldBlock = errors.New("stream: would block")
	// ErrStreamUnknown means that the stream never was, or has ended.
	ErrStreamUnknown = errors.New("stream: no such stream")
	// ErrStreamLimit means that the peer allows no more streams at present.
	ErrStreamLimit = errors.New("stream: the peer allows no more streams now")
	// ErrLane means that a session can have no such lane: its number is too
	// great, or it is the normal one, which cannot be removed.
	ErrLane = errors.New("stream: no such lane")
	// ErrLaneVersion means that a later change of a lane is in force.
	ErrLaneVersion = errors.New("stream: a later change of the lane is in force")
	// ErrWriteClosed means that this side has ended its direction.
	ErrWriteClosed = errors.New("stream: write after the end")
	// ErrTooLarge means that a datagram does not fit one packet.
	ErrTooLarge = errors.New("stream: datagram does not fit one packet")
	// ErrNoDatagrams means that the peer's version takes no datagrams.
	ErrNoDatagrams = errors.New("stream: the peer takes no datagrams")
	// ErrReplayed means that a HELLO was taken before and its session is gone.
	ErrReplayed = errors.New("stream: HELLO was seen before")
	// ErrHello means that a HELLO is malformed or not made for this key.
	ErrHello = errors.New("stream: HELLO does not parse or authenticate")
)

// ResetError is what Read and Write return once the peer has reset a stream
// or stopped reading it.
type ResetError struct {
	Code uint64
}

func (e *ResetError) Error() string {
	return fmt.Sprintf("stream: reset by the peer with code %#x", e.Code)
}

// ClosedError is what every call returns once the session is closed.
type ClosedError struct {
	Code   wire.Code
	Reason string
}

func (e *ClosedError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("stream: session closed with code %#02x: %s", uint8(e.Code), e.Reason)
	}
	return fmt.Sprintf("stream: session closed with code %#02x: %s", uint8(e.Code), e.Code)
}

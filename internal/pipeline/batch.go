package pipeline

import (
	"encoding/binary"
	"fmt"

	"github.com/nyxnet/nyx/internal/audit"
)

// A batch is events in a row, each as its length (2, big-endian) and its encoding
// (package audit). It is what a node posts and what its outbox is on disk.
const (
	batchHead = 2
	// BatchEvents and BatchBytes bound a batch that is posted.
	BatchEvents = batchMost
	BatchBytes  = 256 << 10
)

// AppendBatch adds an encoded event to a batch.
func AppendBatch(b, event []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(event))), event...)
}

// cutBatch takes the first event off a batch. The event is part of b.
func cutBatch(b []byte) (event, rest []byte, ok bool) {
	if len(b) < batchHead {
		return nil, nil, false
	}
	n := batchHead + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[batchHead:n], b[n:], true
}

// ParseBatch reads a batch that was posted: what is not an event, and what is more
// than BatchEvents, makes all of it bad. Messages are parts of b.
func ParseBatch(b []byte) (events []audit.Event, messages []Message, err error) {
	for len(b) > 0 {
		one, rest, ok := cutBatch(b)
		if !ok {
			return nil, nil, fmt.Errorf("event %d of the batch is cut off", len(events)+1)
		}
		if len(events) == BatchEvents {
			return nil, nil, fmt.Errorf("more than %d events in a batch", BatchEvents)
		}
		e, err := audit.Parse(one)
		if err != nil {
			return nil, nil, fmt.Errorf("event %d of the batch: %w", len(events)+1, err)
		}
		events, messages, b = append(events, e), append(messages, Message{ID: e.ID, Payload: one}), rest
	}
	return events, messages, nil
}

// ByLane tells the messages of a batch apart by the lanes of their events.
func ByLane(events []audit.Event, messages []Message) (lanes [NumLanes][]Message) {
	for i := range events {
		l := LaneOf(&events[i])
		lanes[l] = append(lanes[l], messages[i])
	}
	return lanes
}

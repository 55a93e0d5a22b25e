package mail

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
)

// letter is what was published together.
type letter struct {
	key      string
	revision int64 // of the store; 0: it has not told of it yet
	lane     pipeline.Lane
	at       time.Time
	again    bool // its messages were dead: that they are known is no matter
	messages []pipeline.Message

	total, size int64 // messages, and their bytes
	left        int64 // that are not settled here
}

// A letter is
//
//	again (1) time (8, ms) { ID (16) length (2) payload }…
//
// with numbers in big-endian order.
const (
	letterHead  = 1 + 8
	messageHead = 16 + 2
)

var errLetter = errors.New("it is not a letter")

func (l *letter) encode() []byte {
	b := []byte{0}
	if l.again {
		b[0] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(l.at.UnixMilli()))
	for _, m := range l.messages {
		b = append(b, m.ID[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Payload)))
		b = append(b, m.Payload...)
	}
	return b
}

// decode reads what encode has written; payloads are parts of b.
func (l *letter) decode(b []byte) error {
	if len(b) < letterHead || b[0] > 1 {
		return errLetter
	}
	l.again, l.at = b[0] == 1, time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:]))).UTC()
	l.messages = nil
	for b = b[letterHead:]; len(b) > 0; {
		if len(b) < messageHead {
			return errLetter
		}
		m := pipeline.Message{ID: [16]byte(b)}
		n := messageHead + int(binary.BigEndian.Uint16(b[16:]))
		if len(b) < n {
			return errLetter
		}
		m.Payload, b = b[messageHead:n:n], b[n:]
		l.messages = append(l.messages, m)
	}
	l.count()
	return nil
}

// count notes how much there is of it; all of it waits.
func (l *letter) count() {
	l.total, l.size = int64(len(l.messages)), 0
	for _, m := range l.messages {
		l.size += int64(len(m.Payload))
	}
	l.left = l.total
}

// waiting is how many of its messages some member has not settled: here, and once that
// is done, elsewhere.
func (l *letter) waiting() int64 {
	if l.left > 0 {
		return l.left
	}
	return l.total
}

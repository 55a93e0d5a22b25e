package pipe

import "sync"

// Fake is one end of a pipe in memory, for tests. It works inside a
// testing/synctest bubble.
type Fake struct {
	send, receive chan []byte
	end           *sync.Once
	ended         chan struct{}
}

// NewFake returns the two ends of a pipe that holds up to room datagrams in
// each direction; a Send beyond that blocks.
func NewFake(room int) (a, b *Fake) {
	there, back, ended, end := make(chan []byte, room), make(chan []byte, room), make(chan struct{}), new(sync.Once)
	return &Fake{there, back, end, ended}, &Fake{back, there, end, ended}
}

// Send sends a copy of b.
func (f *Fake) Send(b []byte) error {
	select {
	case f.send <- append([]byte(nil), b...):
		return nil
	case <-f.ended:
		return errClosed
	}
}

// Receive waits for a datagram.
func (f *Fake) Receive() ([]byte, error) {
	select {
	case b := <-f.receive:
		return b, nil
	case <-f.ended:
		return nil, errClosed
	}
}

// Close closes both ends.
func (f *Fake) Close() error {
	f.end.Do(func() { close(f.ended) })
	return nil
}

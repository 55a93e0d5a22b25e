package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// A Stream node keeps service descriptors. They are laid down and fetched over
// an ordinary stream to the host keeperHost that ends at the node, which sends
// a challenge first, [point 32]:
//
//	put  [1][index 32][nonce 8][proof 16][length 2][sealed]   answer [status 1][work 1]
//	get  [2][index 32]                                        answer [length 2][sealed]
//
// The length is 0 if nothing lies there; work is the price, in bits, of a place
// that was not paid for.
const keeperHost = "descriptors" + service.Domain

const (
	keeperPut = 1
	keeperGet = 2
	// keeperTimeout bounds one exchange.
	keeperTimeout = 30 * time.Second
)

// keeper serves a store to streams.
type keeper struct {
	id    wire.NodeID
	clock *drive.Clock

	mu    sync.Mutex
	draw  *prng.Stream
	store service.Store
}

func (k *keeper) serve(c *tunnel.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(keeperTimeout))
	challenge := k.challenge()
	if _, err := c.Write(append([]byte{byte(wire.StatusOK)}, challenge.Point[:]...)); err != nil {
		return
	}
	var op [1]byte
	var p service.Publication
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	if _, err := io.ReadFull(c, p.Index[:]); err != nil {
		return
	}
	switch op[0] {
	case keeperPut:
		if readPublication(c, &p) == nil {
			status, work := k.put(challenge, &p)
			c.Write([]byte{byte(status), byte(work)})
		}
	case keeperGet:
		k.mu.Lock()
		sealed := k.store.Get(k.clock.Now(), p.Index)
		k.mu.Unlock()
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(sealed))), sealed...))
	}
}

func (k *keeper) challenge() *service.Challenge {
	var secret seal.Scalar
	k.mu.Lock()
	k.draw.Read(secret[:])
	k.mu.Unlock()
	return service.NewChallenge(secret)
}

// put decides on a publication, the cheapest question first.
func (k *keeper) put(c *service.Challenge, p *service.Publication) (status wire.Status, work int) {
	now := k.clock.Now()
	k.mu.Lock()
	price := k.store.Price(now, p.Index)
	k.mu.Unlock()
	if service.Work(c.Point, p.Index, p.Nonce) < price {
		return wire.StatusBusy, price
	}
	if !c.Holds(p, k.id) {
		return wire.StatusNotAllowed, 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.store.Put(now, p.Index, p.Sealed) {
		return wire.StatusBusy, k.store.Price(now, p.Index)
	}
	return wire.StatusOK, 0
}

func readPublication(r io.Reader, p *service.Publication) error {
	var head [8 + len(p.Proof)]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	p.Nonce = binary.BigEndian.Uint64(head[:])
	copy(p.Proof[:], head[8:])
	var err error
	p.Sealed, err = readSized(r)
	return err
}

// readSized reads a length and that many bytes.
func readSized(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > service.SealedMax {
		return nil, errors.New("descriptor larger than any can be")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// putOnce offers a descriptor to a keeper with some work, and returns the price
// if that was not enough.
func (l *Listener) putOnce(ctx context.Context, node wire.NodeID, period uint64, sealed []byte, work int) (price int, err error) {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	conn, challenge, err := l.client.keeperConn(ctx, "service "+l.address.String(), node)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	p := &service.Publication{Index: l.address.Index(period), Sealed: sealed}
	if p.Nonce, err = findWork(ctx, challenge, p.Index, work); err != nil {
		return 0, err
	}
	if err := l.key.Prove(p, period, node, challenge); err != nil {
		return 0, err
	}
	msg := append([]byte{keeperPut}, p.Index[:]...)
	msg = binary.BigEndian.AppendUint64(msg, p.Nonce)
	msg = append(msg, p.Proof[:]...)
	msg = append(binary.BigEndian.AppendUint16(msg, uint16(len(sealed))), sealed...)
	if _, err := conn.Write(msg); err != nil {
		return 0, err
	}
	var answer [2]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return 0, err
	}
	switch wire.Status(answer[0]) {
	case wire.StatusOK:
		return 0, nil
	case wire.StatusBusy:
		return int(answer[1]), errPrice
	}
	return 0, fmt.Errorf("the keeper refused the descriptor with status %d", answer[0])
}

var errPrice = errors.New("the keeper's store of descriptors is full, or takes more work")

// putTries is how often a price is met that has risen meanwhile.
const putTries = 3

// put lays a descriptor down at a keeper. The first try does no work: a place
// that is the service's already costs none, and for another the answer names
// the price.
func (l *Listener) put(ctx context.Context, node wire.NodeID, period uint64, sealed []byte) error {
	work, err := 0, errPrice
	for range putTries {
		if work > service.WorkMost || !errors.Is(err, errPrice) {
			break
		}
		work, err = l.putOnce(ctx, node, period, sealed, work)
	}
	return err
}

// findWork does the work for a place, unless ctx ends before.
func findWork(ctx context.Context, challenge seal.Point, ix service.Index, work int) (nonce uint64, err error) {
	const chunk = 1 << 14
	for ok := false; !ok; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		nonce, ok = service.FindWork(challenge, ix, work, nonce, chunk)
	}
	return nonce, nil
}

// keeperConn opens a stream to a node's store and reads its challenge. It is in
// a session of its own for each isolation key, so that a node cannot tell that
// two keys' look-ups, or the descriptors of two services, come from one client.
func (c *Client) keeperConn(ctx context.Context, isolation string, node wire.NodeID) (*tunnel.Conn, seal.Point, error) {
	var challenge seal.Point
	conn, err := c.open(ctx, c.openAt(isolation, node))
	if err != nil {
		return nil, challenge, err
	}
	conn.SetDeadline(time.Now().Add(keeperTimeout))
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.ReadFull(conn, challenge[:]); err != nil {
		conn.Close()
		return nil, challenge, err
	}
	return conn, challenge, nil
}

// getDescriptor fetches what lies under an index at a keeper, or nil.
func (c *Client) getDescriptor(ctx context.Context, isolation string, node wire.NodeID, ix service.Index) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	conn, _, err := c.keeperConn(ctx, isolation, node)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append([]byte{keeperGet}, ix[:]...)); err != nil {
		return nil, err
	}
	return readSized(conn)
}

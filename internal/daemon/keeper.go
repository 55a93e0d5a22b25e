package daemon

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// A Stream node keeps service descriptors. They are laid down and fetched over
// an ordinary stream to the host keeperHost that ends at the node:
//
//	put  [1][index 32][writer 16][length 2][sealed]   answer [status 1]
//	get  [2][index 32]                                answer [n 1] n × [length 2][sealed]
const keeperHost = "descriptors" + service.Domain

const (
	keeperPut = 1
	keeperGet = 2
	// keeperTimeout bounds one exchange.
	keeperTimeout = 30 * time.Second
)

// keeper serves a store to streams.
type keeper struct {
	mu    sync.Mutex
	store service.Store
	clock *drive.Clock
}

func (k *keeper) serve(c *tunnel.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(keeperTimeout))
	if _, err := c.Write([]byte{byte(wire.StatusOK)}); err != nil {
		return
	}
	var op [1]byte
	var ix service.Index
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	if _, err := io.ReadFull(c, ix[:]); err != nil {
		return
	}
	switch op[0] {
	case keeperPut:
		k.put(c, ix)
	case keeperGet:
		k.get(c, ix)
	}
}

func (k *keeper) put(c *tunnel.Conn, ix service.Index) {
	var writer [16]byte
	if _, err := io.ReadFull(c, writer[:]); err != nil {
		return
	}
	sealed, err := readSized(c)
	if err != nil {
		return
	}
	k.mu.Lock()
	ok := k.store.Put(k.clock.Now(), ix, writer, sealed)
	k.mu.Unlock()
	status := wire.StatusOK
	if !ok {
		status = wire.StatusBusy
	}
	c.Write([]byte{byte(status)})
}

func (k *keeper) get(c *tunnel.Conn, ix service.Index) {
	k.mu.Lock()
	all := k.store.Get(k.clock.Now(), ix)
	k.mu.Unlock()
	out := []byte{byte(len(all))}
	for _, s := range all {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
	}
	c.Write(out)
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

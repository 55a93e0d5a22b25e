// Package pack compresses the content of streams. It is linked into programs
// that offer or ask for it only: nyx-lite does neither.
//
// A compressed stream is a row of chunks (docs/protocol.md, section 10.3):
//
//	[compressed 1 bit, length − 1 15 bits][length bytes]
//
// Each chunk stands for up to ChunkMax bytes by itself: what was said before
// shortens nothing that comes later, which keeps secrets from being guessed
// across chunks, costs no memory between them, and bounds what a chunk that was
// made to explode can cost. A chunk that compression does not shorten travels as
// it is.
package pack

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/tunnel"
)

// ChunkMax is the greatest content of a chunk.
const ChunkMax = 32 << 10

const (
	chunkHeader     = 2
	chunkCompressed = 1 << 15
	// chunkLeast is what is not worth compressing: it fits a packet with room to
	// spare, and short messages are where guessing at secrets begins.
	chunkLeast = 256
)

var errChunk = errors.New("pack: malformed compressed stream")

// Codec compresses the chunks of any number of streams. Its methods may be
// called from any goroutine. The zero Codec is ready.
type Codec struct {
	once sync.Once
	enc  *zstd.Encoder
	dec  *zstd.Decoder

	counting sync.Mutex
	sizes    trace.Values
}

// Sizes are those of the chunks that were made, in bytes.
func (k *Codec) Sizes() trace.Values {
	k.counting.Lock()
	defer k.counting.Unlock()
	return k.sizes
}

// start makes the coders, which only who compresses needs. Their options are
// constants, so that they cannot be refused.
func (k *Codec) start() {
	var err error
	if k.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(ChunkMax),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true)); err != nil {
		panic("pack: encoder options refused: " + err.Error())
	}
	if k.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxWindow(ChunkMax),
		zstd.WithDecoderMaxMemory(ChunkMax), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true)); err != nil {
		panic("pack: decoder options refused: " + err.Error())
	}
}

// AppendChunk appends the chunk of p, which has 1 to ChunkMax bytes.
func (k *Codec) AppendChunk(b, p []byte) []byte {
	at := len(b)
	b = append(b, 0, 0)
	flag := uint16(chunkCompressed)
	if len(p) >= chunkLeast {
		k.once.Do(k.start)
		b = k.enc.EncodeAll(p, b)
	}
	if n := len(b) - at - chunkHeader; n == 0 || n >= len(p) {
		b, flag = append(b[:at+chunkHeader], p...), 0
	}
	binary.BigEndian.PutUint16(b[at:], flag|uint16(len(b)-at-chunkHeader-1))
	k.counting.Lock()
	k.sizes.Observe(uint64(len(b) - at))
	k.counting.Unlock()
	return b
}

// chunkSize is the size of the chunk at the front of b, or how much more of it
// is needed to know.
func chunkSize(b []byte) int {
	if len(b) < chunkHeader {
		return chunkHeader
	}
	return chunkHeader + int(binary.BigEndian.Uint16(b)&^chunkCompressed) + 1
}

// openChunk returns the content of a whole chunk, which aliases b or lies in
// room, of capacity ChunkMax. One whose content is larger is an error.
func (k *Codec) openChunk(b, room []byte) ([]byte, error) {
	body := b[chunkHeader:]
	if binary.BigEndian.Uint16(b)&chunkCompressed == 0 {
		return body, nil
	}
	k.once.Do(k.start)
	p, err := k.dec.DecodeAll(body, room[:0:ChunkMax])
	if err != nil || len(p) <= len(body) { // not by AppendChunk
		return nil, errChunk
	}
	return p, nil
}

// OpenChunk returns the content of b, one whole chunk.
func (k *Codec) OpenChunk(b []byte) ([]byte, bool) {
	if len(b) < chunkHeader || len(b) != chunkSize(b) {
		return nil, false
	}
	p, err := k.openChunk(b, make([]byte, 0, ChunkMax))
	return p, err == nil
}

// Conn is a stream whose content travels in chunks, both ways.
type Conn struct {
	*tunnel.Conn
	codec *Codec

	reading sync.Mutex
	in      []byte // of the chunk that is coming
	room    []byte
	rest    []byte // of the last chunk, not yet read

	writing sync.Mutex
	out     []byte
	broken  error // a chunk was cut off: the stream makes no sense any more
}

// Conn returns a stream of chunks on c, from the next byte on.
func (k *Codec) Conn(c *tunnel.Conn) *Conn { return &Conn{Conn: c, codec: k} }

// Content is Conn, for an exit.
func (k *Codec) Content(c *tunnel.Conn) io.ReadWriter { return k.Conn(c) }

// Read reads what has arrived, and waits for it.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for len(c.rest) == 0 {
		if err := c.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// chunk takes the next chunk. After an error, as of a deadline, it goes on where
// it was.
func (c *Conn) chunk() error {
	if c.room == nil {
		c.room, c.in = make([]byte, 0, ChunkMax), make([]byte, 0, chunkHeader+ChunkMax)
	}
	for need := chunkSize(c.in); len(c.in) < need; need = chunkSize(c.in) {
		n, err := c.Conn.Read(c.in[len(c.in):need])
		c.in = c.in[:len(c.in)+n]
		if err == io.EOF && len(c.in) > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	var err error
	c.rest, err = c.codec.openChunk(c.in, c.room)
	if err != nil {
		c.Conn.Reset()
		return err
	}
	c.in = c.in[:0]
	return nil
}

// Write writes all of p. After an error the stream takes nothing more.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for n < len(p) {
		if c.broken != nil {
			return n, c.broken
		}
		piece := p[n:min(n+ChunkMax, len(p))]
		c.out = c.codec.AppendChunk(c.out[:0], piece)
		if _, c.broken = c.Conn.Write(c.out); c.broken == nil {
			n += len(piece)
		}
	}
	return n, c.broken
}

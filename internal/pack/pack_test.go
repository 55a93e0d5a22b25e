package pack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/nyxnet/nyx/internal/lab/duo"
	"github.com/nyxnet/nyx/internal/pack"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/tunnel"
)

// limit ends a test that hangs, also on a machine that is busy with something else.
const limit = 2 * time.Minute

// compressed opens a stream, both ends compressed.
func compressed(t *testing.T) (near, far *pack.Conn, raw *tunnel.Conn) {
	t.Helper()
	accepted := make(chan *tunnel.Conn, 1)
	p, err := duo.New(stream.Config{}, func(c *tunnel.Conn) { accepted <- c })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	a, err := p.Open([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b := <-accepted
	a.SetDeadline(time.Now().Add(limit))
	b.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	codec := &pack.Codec{}
	return codec.Conn(a), codec.Conn(b), a
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func TestCompressedBytes(t *testing.T) {
	near, far, _ := compressed(t)
	text := bytes.Repeat([]byte("text that says the same again and again. "), 50_000)
	for _, content := range [][]byte{text, noise(300_000), {1}, text[:pack.ChunkMax], text[:pack.ChunkMax+1]} {
		go near.Write(content)
		got := make([]byte, len(content))
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes: %v", len(content), err)
		}
	}
	near.CloseWrite()
	if n, err := far.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// What compression does not shorten grows by the header of a chunk and nothing
// else.
func TestChunksDoNotGrow(t *testing.T) {
	k := &pack.Codec{}
	for _, n := range []int{1, 100, 255, 256, 1000, 5000, pack.ChunkMax} {
		if c := k.AppendChunk(nil, noise(n)); len(c) != n+2 {
			t.Errorf("%d bytes of noise make %d", n, len(c))
		}
		if c := k.AppendChunk([]byte("before"), make([]byte, n)); len(c)-6 > n+2 || n >= 1000 && len(c) > n/10 {
			t.Errorf("%d zeros make %d", n, len(c))
		}
	}
}

// A chunk that unpacks into more than a chunk holds, or is no chunk, ends the
// stream and costs no more memory than another.
func TestBombs(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := enc.EncodeAll(make([]byte, 1<<28), nil)
	twice := enc.EncodeAll(make([]byte, pack.ChunkMax), enc.EncodeAll(make([]byte, pack.ChunkMax), nil))
	for name, body := range map[string][]byte{"bomb": bomb[:min(len(bomb), pack.ChunkMax)], "two frames": twice, "noise": noise(500)} {
		_, far, raw := compressed(t)
		head := binary.BigEndian.AppendUint16(nil, 1<<15|uint16(len(body)-1))
		if _, err := raw.Write(append(head, body...)); err != nil {
			t.Fatal(err)
		}
		if n, err := far.Read(make([]byte, 10)); err == nil {
			t.Errorf("%s: %d bytes were read", name, n)
		}
	}
	_, far, raw := compressed(t)
	raw.Write([]byte{0, 10, 'x'})
	raw.CloseWrite()
	if _, err := far.Read(make([]byte, 10)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a chunk that was cut off: %v", err)
	}
}

// A deadline in the middle of a chunk loses nothing of it.
func TestReadingGoesOnAfterADeadline(t *testing.T) {
	_, far, raw := compressed(t)
	raw.Write([]byte{0, 2, 'a'})
	far.SetReadDeadline(time.Unix(1, 0))
	if _, err := far.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	far.SetReadDeadline(time.Now().Add(limit))
	raw.Write([]byte("bc"))
	b := make([]byte, 10)
	if n, err := far.Read(b); err != nil || string(b[:n]) != "abc" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

package ledger

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	segmentsDir   = "segments"
	segmentSuffix = ".seg"
)

// newID draws an ID.
func newID(now time.Time) audit.ID {
	var drawn [10]byte
	rand.Read(drawn[:])
	return audit.NewID(now, drawn)
}

// segment is the one that is written.
type segment struct {
	path   string
	head   audit.Head
	file   *os.File
	sealer *audit.Sealer
	size   int64
}

func segmentName(h *audit.Head) string {
	return fmt.Sprintf("%s-%012d%s", strings.ReplaceAll(h.Day.String(), "-", ""), h.First, segmentSuffix)
}

// newSegment begins a segment where the chain ends. The file has its whole head when
// its name appears.
func (l *Log) newSegment(day audit.Day) (*segment, error) {
	var key seal.Key
	rand.Read(key[:])
	defer key.Clear()
	h := audit.Head{Day: day, First: l.chain.Size(), Prev: l.chain.Last}
	var err error
	if h.Wrapped, err = l.cfg.Wrapper.Wrap(context.Background(), h.KeyLabel(), &key); err != nil {
		return nil, fmt.Errorf("the key of a segment cannot be wrapped: %w", err)
	}
	if len(h.Wrapped) > audit.WrappedMax {
		return nil, fmt.Errorf("a wrapped key of %d bytes, at most %d", len(h.Wrapped), audit.WrappedMax)
	}
	dir := filepath.Join(l.cfg.Dir, segmentsDir)
	s := &segment{path: filepath.Join(dir, segmentName(&h)), head: h, sealer: audit.NewSealer(&h, &key)}
	head := h.Append(nil)
	s.size = int64(len(head))
	if err := writeDurable(s.path, head, l.cfg.sync); err != nil {
		return nil, err
	}
	s.file, err = os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	return s, err
}

// endSegment makes the segment one that is never written again.
func (l *Log) endSegment() error {
	s := l.segment
	if s == nil {
		return nil
	}
	l.segment = nil
	if err := errors.Join(s.file.Close(), os.Chmod(s.path, 0o400)); err != nil {
		return err
	}
	return l.tiles.Sync()
}

// writeDurable writes a file that is there with all of its content or not at all.
func writeDurable(path string, content []byte, sync func(*os.File) error) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// file is a segment that is read.
type file struct {
	path string
	head audit.Head
	body int64 // where its frames begin
	size int64
}

// files lists the segments in the order of their entries.
func (s *Store) files() ([]file, error) {
	names, err := filepath.Glob(filepath.Join(s.Dir, segmentsDir, "*"+segmentSuffix))
	if err != nil {
		return nil, err
	}
	var out []file
	for _, path := range names { // sorted, and names sort by day and first entry
		f, err := readHead(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed by retention meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func readHead(path string) (file, error) {
	f, err := os.Open(path)
	if err != nil {
		return file{}, fmt.Errorf("ledger: %w", err)
	}
	defer f.Close()
	b := make([]byte, audit.HeadMax)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return file{}, fmt.Errorf("ledger: %s: %w", path, err)
	}
	h, size, err := audit.ParseHead(b[:n])
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return file{}, fmt.Errorf("ledger: %w", err)
	}
	if name := segmentName(&h); name != filepath.Base(path) {
		return file{}, fmt.Errorf("%w: %s says inside that it is %s", audit.ErrBroken, path, name)
	}
	return file{path: path, head: h, body: int64(size), size: info.Size()}, nil
}

// scanner reads the frames of a segment.
type scanner struct {
	file
	f      *os.File
	body   *io.SectionReader // of what was there when the file was listed
	r      *bufio.Reader
	sealer *audit.Sealer
	at     int64 // offset of the next frame
	next   int64 // place of its first entry
	frame  []byte
	plain  []byte
}

// scan opens a segment for reading.
func (s *Store) scan(ctx context.Context, seg file) (*scanner, error) {
	key, err := s.Wrapper.Unwrap(ctx, seg.head.KeyLabel(), seg.head.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("ledger: the key of %s: %w", seg.path, err)
	}
	defer key.Clear()
	f, err := os.Open(seg.path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	body := io.NewSectionReader(f, seg.body, seg.size-seg.body)
	return &scanner{file: seg, f: f, body: body, r: bufio.NewReaderSize(body, 64<<10), sealer: audit.NewSealer(&seg.head, &key), at: seg.body, next: seg.head.First}, nil
}

func (s *scanner) close() { s.f.Close() }

// errTorn is a frame that was not written to its end: what follows it in the file,
// if anything, is no more than a frame can be.
var errTorn = errors.New("ledger: the last frame was not written to its end")

// frameHead reads the head of the next frame; io.EOF after the last.
func (s *scanner) frameHead() (sealed, count int, err error) {
	head, err := s.r.Peek(audit.FrameHead)
	if len(head) == 0 && err == io.EOF {
		return 0, 0, io.EOF
	}
	left := s.size - s.at
	if len(head) < audit.FrameHead {
		return 0, 0, errTorn
	}
	sealed, count, err = audit.ParseFrameHead(head)
	switch {
	case err != nil && left <= audit.FrameHead+audit.FrameMax+seal.Overhead:
		return 0, 0, errTorn
	case err != nil:
		return 0, 0, s.fault(err.Error())
	case left < int64(audit.FrameHead+sealed):
		return 0, 0, errTorn
	}
	return sealed, count, nil
}

// fault is one at the next frame.
func (s *scanner) fault(what string) error {
	return &audit.Fault{First: s.next, Last: s.next, What: fmt.Sprintf("%s at byte %d: %s", filepath.Base(s.path), s.at, what)}
}

// skip passes over the next frame if all of its entries stand before a place.
func (s *scanner) skip(before int64) (bool, error) {
	sealed, count, err := s.frameHead()
	if err != nil || s.next+int64(count) > before {
		return false, err
	}
	if size := audit.FrameHead + sealed; size <= s.r.Buffered() {
		s.r.Discard(size)
	} else if _, err := s.body.Seek(s.at+int64(size)-s.file.body, io.SeekStart); err == nil {
		s.r.Reset(s.body)
	}
	s.sealer.Skip(1)
	s.at, s.next = s.at+int64(audit.FrameHead+sealed), s.next+int64(count)
	return true, nil
}

// read returns the entries of the next frame, until the next call.
func (s *scanner) read() (entries []byte, count int, err error) {
	sealed, count, err := s.frameHead()
	if err != nil {
		return nil, 0, err
	}
	if need := audit.FrameHead + sealed; cap(s.frame) < need {
		s.frame = make([]byte, need)
	}
	s.frame = s.frame[:audit.FrameHead+sealed]
	if _, err := io.ReadFull(s.r, s.frame); err != nil {
		return nil, 0, errTorn
	}
	if s.plain, err = s.sealer.Open(s.plain[:0], s.frame); err != nil {
		return nil, 0, s.fault("the frame does not authenticate: a bit was changed, or it stood elsewhere")
	}
	s.at, s.next = s.at+int64(len(s.frame)), s.next+int64(count)
	return s.plain, count, nil
}

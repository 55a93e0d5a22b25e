package audit

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// A segment is a file of the log: a head, then frames of entries, each written and
// made durable as one. It begins with the day, after a restart or when it is full,
// and is never written again after that. Its key is its own: a frame that a crash
// tore is cut off and never written anew under the same key.
//
//	head:  "nyxaudit" ‖ version (1) ‖ day (4) ‖ first entry (8) ‖ hash before it (32) ‖
//	       length (2) and bytes of the wrapped key
//	frame: length of what is sealed (4) ‖ entries (4) ‖ sealed
//
// What is sealed (AES-256-GCM, nonce: the number of the frame, additional data: the
// hash of the head and the frame's own) are entries, each behind its length (2). So
// nobody without the key can change, move or remove a frame but the last ones.
const (
	segmentMagic   = "nyxaudit"
	segmentVersion = 1
	headFixed      = len(segmentMagic) + 1 + 4 + 8 + 32 + 2

	// HeadMax bounds the head of a segment, in bytes.
	HeadMax = headFixed + WrappedMax
	// FrameHead is the size of a frame before what is sealed.
	FrameHead = 4 + 4
	// FrameMax bounds what a frame holds, in bytes before sealing.
	FrameMax = 1 << 20
)

// Day is a UTC day, counted from 1970-01-01.
type Day uint32

// DayOf is the day of a time.
func DayOf(t time.Time) Day { return Day(t.Unix() / 86400) }

// Start is the day's first moment.
func (d Day) Start() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String writes the day as 2026-11-23.
func (d Day) String() string { return d.Start().Format(time.DateOnly) }

// Head is the head of a segment.
type Head struct {
	Day     Day
	First   int64 // place of its first entry
	Prev    Hash  // of the entry before it
	Wrapped []byte
}

// Append writes the head.
func (h *Head) Append(b []byte) []byte {
	b = append(append(b, segmentMagic...), segmentVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Day))
	b = binary.BigEndian.AppendUint64(b, uint64(h.First))
	b = append(b, h.Prev[:]...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(h.Wrapped))), h.Wrapped...)
}

// ParseHead reads the head at the beginning of b, and says how long it is.
func ParseHead(b []byte) (h Head, size int, err error) {
	if len(b) < headFixed || string(b[:len(segmentMagic)]) != segmentMagic {
		return h, 0, fmt.Errorf("%w: no segment of an audit log", ErrBroken)
	}
	if v := b[len(segmentMagic)]; v != segmentVersion {
		return h, 0, fmt.Errorf("%w: segment of version %d, not %d", ErrBroken, v, segmentVersion)
	}
	rest := b[len(segmentMagic)+1:]
	h.Day, h.First = Day(binary.BigEndian.Uint32(rest)), int64(binary.BigEndian.Uint64(rest[4:]))
	h.Prev = Hash(rest[12:44])
	n := int(binary.BigEndian.Uint16(rest[44:]))
	if h.First < 0 || n > WrappedMax || len(b) < headFixed+n {
		return Head{}, 0, fmt.Errorf("%w: malformed head of a segment", ErrBroken)
	}
	h.Wrapped = append([]byte(nil), rest[46:46+n]...)
	return h, headFixed + n, nil
}

// KeyLabel is for what the segment's key is wrapped.
func (h *Head) KeyLabel() string { return fmt.Sprintf("audit segment %v %d", h.Day, h.First) }

// Sealer seals the frames of a segment, or opens them, in their order. It belongs to
// one goroutine.
type Sealer struct {
	aead   *seal.AEAD
	extra  [seal.HashSize + FrameHead]byte
	frames uint64
}

// NewSealer returns the sealer of a segment.
func NewSealer(h *Head, key *seal.Key) *Sealer {
	s := &Sealer{aead: seal.NewAEAD(seal.AES256GCM, key)}
	head := seal.Hash("audit segment", h.Append(nil))
	copy(s.extra[:], head[:])
	return s
}

// Seal appends a frame with so many entries to dst.
func (s *Sealer) Seal(dst, entries []byte, count int) []byte {
	head := s.extra[seal.HashSize:]
	binary.BigEndian.PutUint32(head, uint32(len(entries)+seal.Overhead))
	binary.BigEndian.PutUint32(head[4:], uint32(count))
	dst = s.aead.Seal(append(dst, head...), entries, s.extra[:], s.frames)
	s.frames++
	return dst
}

// ParseFrameHead returns how many bytes follow the head of a frame, and how many
// entries they hold.
func ParseFrameHead(b []byte) (sealed, count int, err error) {
	n, m := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:FrameHead])
	if n <= seal.Overhead || n > FrameMax+seal.Overhead || m == 0 || m > n/(entryHead+eventHead) {
		return 0, 0, fmt.Errorf("%w: malformed head of a frame", ErrBroken)
	}
	return int(n), int(m), nil
}

// Open appends the entries of the next frame, head and all, to dst. frame and dst's
// spare capacity do not overlap.
func (s *Sealer) Open(dst, frame []byte) ([]byte, error) {
	copy(s.extra[seal.HashSize:], frame[:FrameHead])
	out, ok := s.aead.Open(dst, frame[FrameHead:], s.extra[:], s.frames)
	if !ok {
		return dst, fmt.Errorf("%w: frame %d of the segment does not authenticate", ErrBroken, s.frames)
	}
	s.frames++
	return out, nil
}

// Skip passes over frames that are not to be opened.
func (s *Sealer) Skip(frames int) { s.frames += uint64(frames) }

// CutEntry takes the first entry off the entries of a frame.
func CutEntry(b []byte) (entry, rest []byte, err error) {
	if len(b) >= 2 {
		if n := int(binary.BigEndian.Uint16(b)); n >= entryHead+eventHead && n <= EntryMax && n <= len(b)-2 {
			return b[2 : 2+n : 2+n], b[2+n:], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: malformed entry in a frame", ErrBroken)
}

// HashesHead begins the file of the hashes of entries that retention removed, 32
// bytes each from the log's first entry on: the chain, the tree and proofs still
// follow from them.
const HashesHead = "nyxhash\x01"

// RemovalDetails are those of the event that says that the entries before one were
// removed, the last of them of a day. root is that of the tree of them.
func RemovalDetails(day Day, before int64, root Hash) []Detail {
	return []Detail{{"day", day.String()}, {"count", strconv.FormatInt(before, 10)}, {"root", hex.EncodeToString(root[:])}}
}

// Removed reads them: entries before one were removed, and had a root.
func (e *Event) Removed() (before int64, root string, ok bool) {
	before, err := strconv.ParseInt(e.Detail("count"), 10, 64)
	return before, e.Detail("root"), err == nil && e.Kind == Retention && e.Outcome == OK
}

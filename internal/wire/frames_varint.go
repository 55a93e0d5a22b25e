package wire

import (
	"encoding/binary"
	"errors"
)

// ErrFrame means that a session frame is cut short, has a value out of range,
// or uses another encoding than the one of its value.
var ErrFrame = errors.New("wire: malformed session frame")

// MaxVarint is the greatest value of a varint.
const MaxVarint = 1<<62 - 1

// VarintLen is the number of bytes of v's encoding: 1, 2, 4 or 8.
func VarintLen(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	default:
		return 8
	}
}

// AppendVarint appends v in the encoding of RFC 9000, section 16: the two top
// bits of the first byte give the length, the rest is big-endian. v must not
// be greater than MaxVarint.
func AppendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v>>8)|0x40, byte(v))
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|0x80000000)
	default:
		return binary.BigEndian.AppendUint64(b, v|0xc000000000000000)
	}
}

// ParseVarint reads a varint and returns the number of bytes it took, or 0 if
// b is too short or the value has a shorter encoding: unlike in QUIC, only the
// shortest is accepted.
func ParseVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch b[0] >> 6 {
	case 0:
		return uint64(b[0]), 1
	case 1:
		if len(b) >= 2 {
			v, n = uint64(b[0]&0x3f)<<8|uint64(b[1]), 2
		}
	case 2:
		if len(b) >= 4 {
			v, n = uint64(binary.BigEndian.Uint32(b)&0x3fffffff), 4
		}
	default:
		if len(b) >= 8 {
			v, n = binary.BigEndian.Uint64(b)&MaxVarint, 8
		}
	}
	if n != VarintLen(v) {
		return 0, 0
	}
	return v, n
}

// fields reads varints one after another; after a failure it stays failed.
type fields struct {
	b      []byte
	at     int
	failed bool
}

func (f *fields) varint() uint64 {
	v, n := ParseVarint(f.b[f.at:])
	if n == 0 {
		f.fail()
		return 0
	}
	f.at += n
	return v
}

func (f *fields) byte() byte {
	if f.at >= len(f.b) {
		f.fail()
		return 0
	}
	f.at++
	return f.b[f.at-1]
}

func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.b)-f.at) {
		f.fail()
		return nil
	}
	f.at += int(n)
	return f.b[f.at-int(n) : f.at : f.at]
}

func (f *fields) fail() { f.failed, f.at = true, len(f.b) }

func (f *fields) result() (int, error) {
	if f.failed {
		return 0, ErrFrame
	}
	return f.at, nil
}

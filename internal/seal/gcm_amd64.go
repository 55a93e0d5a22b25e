//go:build !purego

package seal

import (
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"slices"

	"golang.org/x/sys/cpu"
)

// hasWide says that this processor has the instructions of gcm_amd64.s, and that
// the system saves their registers, without which package cpu names no AVX: of
// Intel those since Ice Lake, of AMD those since Zen 4. Elsewhere AES-GCM is
// the standard library's.
var hasWide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL &&
	cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ &&
	cpu.X86.HasAVX && cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasBMI2

// wide is AES-256-GCM on vectors of four blocks. Its results are those of the
// standard library, which works on single blocks: a packet through five hops
// takes 22 passes of it, and they are most of what the packet costs.
// It holds nothing but the key: several goroutines may use it at once.
type wide struct{ key wideKey }

// wideKey is an expanded key: round keys, powers 17 to 1 of the hash key, and
// zeros for the lanes behind the last.
type wideKey [(15 + 17 + 3) * 16]byte

// newWide returns nil where the processor lacks the instructions.
func newWide(key *Key) *wide {
	if !hasWide {
		return nil
	}
	w := &wide{}
	w.begin(key)
	return w
}

// begin expands another key into w.
func (w *wide) begin(key *Key) { gcmInit(&w.key, key) }

// forget overwrites the expanded key.
func (w *wide) forget() { *w = wide{} }

// first is the first counter block of a message: nonce, 1.
func first(nonce []byte) (b [16]byte) {
	*(*[12]byte)(b[:]) = [12]byte(nonce)
	b[15] = 1
	return b
}

// wideMax bounds a message, far below where its 32-bit block counter ends.
const wideMax = 1 << 30

var errOpen = errors.New("seal: message authentication failed")

// NonceSize implements cipher.AEAD.
func (w *wide) NonceSize() int { return 12 }

// Overhead implements cipher.AEAD.
func (w *wide) Overhead() int { return Overhead }

// Seal implements cipher.AEAD. That buffers overlap exactly or not at all is the
// caller's to see to, as AEAD.Seal says: it is not checked.
func (w *wide) Seal(dst, nonce, plaintext, additional []byte) []byte {
	n := len(plaintext)
	if n > wideMax {
		panic("seal: message too long")
	}
	counter := first(nonce)
	out := slices.Grow(dst, n+Overhead)[:len(dst)+n+Overhead]
	sealed := out[len(dst):]
	gcmSeal(&w.key, sealed[:n], plaintext, additional, &counter, (*[16]byte)(sealed[n:]))
	return out
}

// Open implements cipher.AEAD, with the same rule. The text is decrypted before
// its tag is compared, and overwritten if that fails.
func (w *wide) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	n := len(sealed) - Overhead
	if n < 0 || n > wideMax {
		return nil, errOpen
	}
	counter := first(nonce)
	var tag [16]byte
	out := slices.Grow(dst, n)[:len(dst)+n]
	plain := out[len(dst):]
	gcmOpen(&w.key, plain, sealed[:n], additional, &counter, &tag)
	if subtle.ConstantTimeCompare(tag[:], sealed[n:]) != 1 {
		clear(plain)
		return nil, errOpen
	}
	return out, nil
}

var _ cipher.AEAD = (*wide)(nil)

// gcmInit expands key into w.
//
//go:noescape
func gcmInit(w *wideKey, key *Key)

// gcmSeal encrypts src into dst, which is as long and is src or does not
// overlap it, and then sets tag, which may lie behind dst.
//
//go:noescape
func gcmSeal(w *wideKey, dst, src, additional []byte, counter, tag *[16]byte)

// gcmOpen decrypts src into dst likewise and sets tag to what it should be:
// the caller compares.
//
//go:noescape
func gcmOpen(w *wideKey, dst, src, additional []byte, counter, tag *[16]byte)

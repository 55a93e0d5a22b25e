package translog

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/nyxnet/nyx/internal/seal"
)

// Signatures on notes are the hybrid ones of the whole network (docs/protocol.md,
// section 3.5), which C2SP has no type for: their type is 0xff, followed by the
// names below, which are their contexts too. A log signs the note's text. A
// witness signs what tlog-cosignature has for Ed25519, the time before the text,
// and puts the time before its signature; its name, which that message leaves out,
// follows from its key.
const (
	logKind      = "nyx log 1"
	cosignedKind = "nyx cosignature 1"
	unassigned   = 0xff
)

// key is the public key of a log or witness as package note asks for it.
type key struct {
	name, kind string
	public     []byte
}

func logKey(network string, public []byte) key {
	return key{Origin(network, public), logKind, public}
}

func witnessKey(network string, public []byte) key {
	return key{WitnessName(network, public), cosignedKind, public}
}

func (k key) Name() string { return k.name }

// KeyHash is the key ID: four bytes of SHA-256 of name, newline, type and key.
func (k key) KeyHash() uint32 {
	h := seal.SHA256([]byte(k.name), []byte{'\n', unassigned}, []byte(k.kind), k.public)
	return binary.BigEndian.Uint32(h[:])
}

func (k key) Verify(text, sig []byte) bool {
	if k.kind == cosignedKind {
		if len(sig) < 8 {
			return false
		}
		text, sig = cosigned(binary.BigEndian.Uint64(sig), text), sig[8:]
	}
	return seal.Verify(k.public, k.kind, text, sig) == nil
}

// signer is a key with its secret. Of a witness, time is the second since 1970 at
// which it signs.
type signer struct {
	key
	secret *seal.Signer
	time   uint64
}

func (s signer) Sign(text []byte) ([]byte, error) {
	if s.kind != cosignedKind {
		return s.secret.Sign(s.kind, text)
	}
	sig, err := s.secret.Sign(s.kind, cosigned(s.time, text))
	return append(binary.BigEndian.AppendUint64(nil, s.time), sig...), err
}

// cosigned is what a witness signs.
func cosigned(time uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", time), text...)
}

var _ note.Signer = signer{}

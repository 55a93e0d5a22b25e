package audit

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/nyxnet/nyx/internal/seal"
)

// CheckpointMax bounds a signed checkpoint, in bytes: a signature in base64 takes
// 4.5 KB.
const CheckpointMax = 8 << 10

// OriginMax bounds the name of a log, in bytes.
const OriginMax = 128

// Checkpoint is what the log signs: all that it holds, in four lines
// (tlog-checkpoint, with the time as its extension).
type Checkpoint struct {
	Origin string // the log's name
	Size   int64  // entries
	Root   Hash
	Time   time.Time // of signing; UTC, seconds
}

const timeLine = "time "

func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n%s%d\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), timeLine, c.Time.Unix())
}

func parseCheckpoint(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 {
		return nil, fmt.Errorf("%w: %d lines", ErrCheckpoint, len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, err2 := base64.StdEncoding.DecodeString(lines[2])
	seconds, err3 := strconv.ParseInt(strings.TrimPrefix(lines[3], timeLine), 10, 64)
	if err != nil || err2 != nil || err3 != nil || size < 0 || len(root) != len(Hash{}) {
		return nil, fmt.Errorf("%w: size, root or time is malformed", ErrCheckpoint)
	}
	c := &Checkpoint{Origin: lines[0], Size: size, Root: Hash(root), Time: time.Unix(seconds, 0).UTC()}
	if c.text() != text {
		return nil, fmt.Errorf("%w: not the one form of what it says", ErrCheckpoint)
	}
	return c, nil
}

// Sign returns the checkpoint as a signed note.
func (c *Checkpoint) Sign(secret *seal.Signer) ([]byte, error) {
	k := &LogKey{c.Origin, secret.Public()}
	return note.Sign(&note.Note{Text: c.text()}, signer{k, secret})
}

// LogKey is by what a log is known: its name and its public key, of seal.SignPublicSize
// bytes.
type LogKey struct {
	Origin string
	Public []byte
}

// signKind is the context of the signature: a checkpoint of an audit log is never
// one of a directory's.
const signKind = "nyx audit checkpoint 1"

// ID tells the log from all others, by its name and the hash of its key.
func (k *LogKey) ID() string {
	return k.Origin + " " + Digest(seal.SHA256(k.Public))
}

// Name implements note.Verifier.
func (k *LogKey) Name() string { return k.Origin }

// KeyHash implements note.Verifier: four bytes of SHA-256 of name, newline, type
// (0xff: one that C2SP has not assigned), its name, and key.
func (k *LogKey) KeyHash() uint32 {
	h := seal.SHA256([]byte(k.Origin), []byte{'\n', 0xff}, []byte(signKind), k.Public)
	return binary.BigEndian.Uint32(h[:])
}

// Verify implements note.Verifier.
func (k *LogKey) Verify(text, sig []byte) bool {
	return seal.Verify(k.Public, signKind, text, sig) == nil
}

// Open reads a checkpoint that the log has signed.
func (k *LogKey) Open(b []byte) (*Checkpoint, error) {
	if len(b) > CheckpointMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(b))
	}
	n, err := note.Open(b, note.VerifierList(k))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCheckpoint, err)
	}
	c, err := parseCheckpoint(n.Text)
	if err == nil && c.Origin != k.Origin {
		err = fmt.Errorf("%w: it is of %q, not of %q", ErrCheckpoint, c.Origin, k.Origin)
	}
	return c, err
}

// CheckOrigin says what makes a text no name of a log: notes have no spaces and no
// "+" in names.
func CheckOrigin(s string) error {
	if s == "" || len(s) > OriginMax || strings.ContainsAny(s, " +\n") || checkText("the log's name", s, OriginMax) != nil {
		return fmt.Errorf("audit: %q cannot name a log: 1 to %d bytes without spaces and +", s, OriginMax)
	}
	return nil
}

type signer struct {
	*LogKey
	secret *seal.Signer
}

// Sign implements note.Signer.
func (s signer) Sign(text []byte) ([]byte, error) { return s.secret.Sign(signKind, text) }

package secret

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nyxnet/nyx/internal/seal"
)

// Wrapper wraps keys under a key that is a secret of a Store, each for a label that
// says what it is for: it is an audit.KeyWrapper. When the key of the store is
// rotated, what was wrapped before can be unwrapped for as long as its version is
// not destroyed. It is safe for concurrent use.
type Wrapper struct {
	Store Store
	// Name is the secret's: a key of 32 bytes, made when it is first needed.
	Name string
}

// WrappedSize is the size of a wrapped key in bytes: [version 8][box of the key].
const WrappedSize = 8 + seal.KeySize + seal.BoxOverhead

var errWrapped = errors.New("it is damaged, or was wrapped under another key")

// Wrap returns a key wrapped for a label under the present version of the key.
func (w *Wrapper) Wrap(ctx context.Context, label string, key *seal.Key) ([]byte, error) {
	s, err := w.Store.Get(ctx, w.Name, 0)
	if errors.Is(err, ErrNone) {
		if err = w.rotate(ctx, 0); err == nil || errors.Is(err, ErrChanged) { // somebody else made it
			s, err = w.Store.Get(ctx, w.Name, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot wrap a key: %w", err)
	}
	defer clear(s.Value)
	under, err := w.key(s)
	if err != nil {
		return nil, err
	}
	defer under.Clear()
	var salt [seal.BoxSaltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("no randomness: %w", err)
	}
	head := binary.BigEndian.AppendUint64(make([]byte, 0, WrappedSize), s.Version)
	return seal.SealBox(under, &salt, head, key[:], w.additional(label, head)), nil
}

// Unwrap returns the key that was wrapped for a label.
func (w *Wrapper) Unwrap(ctx context.Context, label string, wrapped []byte) (key seal.Key, err error) {
	if len(wrapped) != WrappedSize {
		return key, fmt.Errorf("cannot unwrap a key: a wrapped key has %d bytes, this one has %d", WrappedSize, len(wrapped))
	}
	version := binary.BigEndian.Uint64(wrapped)
	if version == 0 || version > VersionMax {
		return key, fmt.Errorf("cannot unwrap a key: %w", errWrapped)
	}
	s, err := w.Store.Get(ctx, w.Name, version)
	if err != nil {
		return key, fmt.Errorf("cannot unwrap a key of version %d: %w", version, err)
	}
	defer clear(s.Value)
	under, err := w.key(s)
	if err != nil {
		return key, err
	}
	defer under.Clear()
	if _, ok := seal.OpenBox(under, key[:0], wrapped[8:], w.additional(label, wrapped[:8])); !ok {
		return key, fmt.Errorf("cannot unwrap a key of %s: %w", w.Name, errWrapped)
	}
	return key, nil
}

// Rotate makes a fresh version of the key, under which Wrap wraps from now on.
func (w *Wrapper) Rotate(ctx context.Context) error {
	s, err := w.Store.Get(ctx, w.Name, 0)
	if err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	clear(s.Value)
	return w.rotate(ctx, s.Version)
}

func (w *Wrapper) rotate(ctx context.Context, was uint64) error {
	var key seal.Key
	defer key.Clear()
	if _, err := rand.Read(key[:]); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	_, err := w.Store.Put(ctx, w.Name, key[:], was)
	return err
}

func (w *Wrapper) key(s Secret) (*seal.Key, error) {
	if len(s.Value) != seal.KeySize {
		return nil, fmt.Errorf("secret %s has %d bytes, and a wrapping key has %d; name another secret", w.Name, len(s.Value), seal.KeySize)
	}
	key := seal.Key(s.Value)
	return &key, nil
}

// additional binds a wrapped key to its label, and to the name and the version of
// the key that it is under; version has 8 bytes, and a name no zero byte.
func (w *Wrapper) additional(label string, version []byte) []byte {
	return append(append([]byte("wrapped under "+w.Name+"\x00"), version...), label...)
}

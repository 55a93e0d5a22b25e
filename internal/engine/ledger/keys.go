package ledger

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

const keyHead = "nyx audit key 1"

// appendKey writes name and public key of a log, in three lines.
func appendKey(b []byte, k *audit.LogKey) []byte {
	return fmt.Appendf(b, "%s\n%s\n%s\n", keyHead, k.Origin, base64.StdEncoding.EncodeToString(k.Public))
}

// ReadKey reads the file log.key of a log, which who verifies keeps elsewhere.
func ReadKey(path string) (*audit.LogKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) == 4 && lines[0] == keyHead {
		public, err := base64.StdEncoding.DecodeString(lines[2])
		if err == nil && len(public) == seal.SignPublicSize && audit.CheckOrigin(lines[1]) == nil {
			return &audit.LogKey{Origin: lines[1], Public: public}, nil
		}
	}
	return nil, fmt.Errorf("ledger: %s is not the key of an audit log", path)
}

// FileKeys are the keys of a log in files, for who has no better place for them: the
// seed under which it signs, and the key that wraps those of its segments.
type FileKeys struct {
	Signer  *seal.Signer
	Wrapper audit.KeyWrapper
}

const (
	signFile = "sign.key"
	wrapFile = "wrap.key"
)

// OpenFileKeys reads the keys in a directory, and makes those that are not there if
// it may.
func OpenFileKeys(dir string, make bool) (FileKeys, error) {
	var seed [seal.SignSeedSize]byte
	var wrap seal.Key
	defer clear(seed[:])
	for name, key := range map[string][]byte{signFile: seed[:], wrapFile: wrap[:]} {
		if err := fileKey(filepath.Join(dir, name), key, make); err != nil {
			return FileKeys{}, err
		}
	}
	signer, err := seal.NewSigner(&seed)
	return FileKeys{signer, &FileWrapper{wrap}}, err
}

// bearerFile is the key of bearers that are made on this machine.
const bearerFile = "bearer.key"

// OpenBearerKey reads the key, among those of a log, by which a control process knows
// bearers that were made beside it, and makes it if it is not there and may be.
func OpenBearerKey(dir string, make bool) (*seal.Key, error) {
	key := &seal.Key{}
	return key, fileKey(filepath.Join(dir, bearerFile), key[:], make)
}

func fileKey(path string, key []byte, make bool) error {
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == len(key):
		copy(key, b)
		clear(b)
		return nil
	case err == nil:
		return fmt.Errorf("ledger: %s holds %d bytes, not a key of %d", path, len(b), len(key))
	case !errors.Is(err, os.ErrNotExist) || !make:
		return fmt.Errorf("ledger: a key of the log: %w", err)
	}
	rand.Read(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := writeDurable(path, key, (*os.File).Sync); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// FileWrapper wraps keys under one that lies in a file: AES-256-GCM under a key of
// its own for each, derived with 16 drawn bytes that stand first.
type FileWrapper struct{ key seal.Key }

// NewFileWrapper returns the wrapper of a key; the key is copied.
func NewFileWrapper(key *seal.Key) *FileWrapper { return &FileWrapper{*key} }

const saltSize = 16

func (w *FileWrapper) once(label string, salt []byte) *seal.AEAD {
	own := seal.Derive(&w.key, fmt.Sprintf("audit wrap %x %s", salt, label))
	defer own.Clear()
	return seal.NewAEAD(seal.AES256GCM, &own)
}

// Wrap implements audit.KeyWrapper.
func (w *FileWrapper) Wrap(_ context.Context, label string, key *seal.Key) ([]byte, error) {
	salt := make([]byte, saltSize, saltSize+seal.KeySize+seal.Overhead)
	rand.Read(salt)
	return w.once(label, salt).Seal(salt, key[:], nil, 0), nil
}

// Unwrap implements audit.KeyWrapper.
func (w *FileWrapper) Unwrap(_ context.Context, label string, wrapped []byte) (key seal.Key, err error) {
	if len(wrapped) == saltSize+seal.KeySize+seal.Overhead {
		if b, ok := w.once(label, wrapped[:saltSize]).Open(nil, wrapped[saltSize:], nil, 0); ok {
			copy(key[:], b)
			clear(b)
			return key, nil
		}
	}
	return key, errors.New("it was not wrapped under this key")
}

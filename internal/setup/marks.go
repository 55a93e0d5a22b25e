package setup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nyxnet/nyx/internal/directory"
)

// kindMark begins a mark file: a line with the kind, the epoch, the revision
// and the hash in hexadecimal.
const kindMark = "nyx-mark-1"

// LoadMark reads how far a process had come with directory documents. A file
// that does not exist is the beginning; one that is damaged is an error, since
// to begin again would be to believe old documents.
func LoadMark(path string) (m directory.Mark, err error) {
	b, err := readFile(path, keyFileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("cannot read the mark of the newest document: %w", err)
	}
	fields := strings.Fields(string(b))
	if len(fields) == 4 && fields[0] == kindMark && len(fields[3]) == hex.EncodedLen(len(m.Hash)) {
		epoch, err1 := strconv.ParseUint(fields[1], 10, 64)
		revision, err2 := strconv.ParseUint(fields[2], 10, 32)
		_, err3 := hex.Decode(m.Hash[:], []byte(fields[3]))
		if errors.Join(err1, err2, err3) == nil {
			m.Epoch, m.Revision = epoch, uint32(revision)
			return m, nil
		}
	}
	return directory.Mark{}, fmt.Errorf("%s is damaged; remove it if this machine's clock is right, and know that older documents are then believed once", path)
}

// SaveMark writes a mark, which appears whole or not at all and is on disk when
// it returns.
func SaveMark(path string, m directory.Mark) error {
	b := fmt.Appendf(nil, "%s %d %d %x\n", kindMark, m.Epoch, m.Revision, m.Hash)
	if err := writeFile(path, b, 0o600, true); err != nil {
		return fmt.Errorf("cannot keep the mark of the newest document: %w", err)
	}
	return nil
}

// LoadState reads a file of SaveState; nil if there is none.
func LoadState(path string) ([]byte, error) {
	b, err := readFile(path, directory.MaxDocumentSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what was kept: %w", err)
	}
	return b, nil
}

// SaveState keeps a file, whole or not at all; it is on disk when it returns.
func SaveState(path string, b []byte) error {
	if err := writeFile(path, b, 0o600, true); err != nil {
		return fmt.Errorf("cannot keep %s: %w", filepath.Base(path), err)
	}
	return nil
}

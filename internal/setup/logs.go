package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nyxnet/nyx/internal/directory/translog"
)

// LogFile is a transparency log on disk, or the copy of one: its entries in a file
// that only grows, and beside it the newest note.
type LogFile struct {
	path, notePath string
	lazy           bool
}

// Suffixes of a log's two files.
const (
	EntriesSuffix    = ".entries"
	CheckpointSuffix = ".checkpoint"
)

// NewLogFile is the log of a name in a directory. Of a copy, which can be fetched
// again, the last entries may be lost with the machine's power; lazy says so.
func NewLogFile(path string, lazy bool) *LogFile {
	return &LogFile{path: path + EntriesSuffix, notePath: path + CheckpointSuffix, lazy: lazy}
}

// entriesMax bounds a log file, in bytes: a century of hours.
const entriesMax = 1 << 28

// Load reads what is there, and cuts off an entry that a crash left half written.
// note is nil if there is none.
func (l *LogFile) Load() (entries [][]byte, note []byte, err error) {
	if note, err = readOrNone(l.notePath, translog.MaxCheckpointSize); err != nil {
		return nil, nil, fmt.Errorf("cannot read the log's checkpoint: %w", err)
	}
	b, err := readOrNone(l.path, entriesMax)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the log: %w", err)
	}
	entries, rest := translog.ParseEntries(b)
	if len(rest) > 0 {
		if err := os.Truncate(l.path, int64(len(b)-len(rest))); err != nil {
			return nil, nil, fmt.Errorf("cannot mend the log: %w", err)
		}
	}
	return entries, note, nil
}

func readOrNone(path string, max int64) ([]byte, error) {
	b, err := readFile(path, max)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Append adds entries, which are on disk when it returns, but for a lazy one's.
func (l *LogFile) Append(entries ...[]byte) (err error) {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var b []byte
	for _, e := range entries {
		b = translog.AppendEntry(b, e)
	}
	if _, err = f.Write(b); err == nil && !l.lazy {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot write the log: %w", err)
	}
	return nil
}

// Keep writes the note, whole or not at all.
func (l *LogFile) Keep(note []byte) error { return SaveNote(l.notePath, note) }

// Truncate leaves the first entries only.
func (l *LogFile) Truncate(entries [][]byte) error {
	size := int64(0)
	for _, e := range entries {
		size += int64(len(translog.AppendEntry(nil, e)))
	}
	if err := os.Truncate(l.path, size); err != nil {
		return fmt.Errorf("cannot mend the log: %w", err)
	}
	return nil
}

// LoadNote reads a note, or nil if there is none.
func LoadNote(path string) ([]byte, error) {
	b, err := readOrNone(path, translog.MaxCheckpointSize)
	if err != nil {
		return nil, fmt.Errorf("cannot read a checkpoint: %w", err)
	}
	return b, nil
}

// SaveNote writes a note, which is on disk when it returns.
func SaveNote(path string, note []byte) error {
	if err := writeFile(path, note, 0o600, true); err != nil {
		return fmt.Errorf("cannot keep a checkpoint: %w", err)
	}
	return nil
}

// SaveEvidence writes evidence once; that it is there already is no error.
func SaveEvidence(path string, b []byte) error {
	if err := writeFile(path, b, 0o644, false); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot keep evidence: %w", err)
	}
	return nil
}

package usage

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/spool"
)

const (
	// keptMost is for how long a command is kept that is not told. Its clock starts at the
	// beginning of its day, up to 24 hours before it; it may wait 18 for its report, then 24
	// for who is away, and half an hour more. So it is kept for 48 hours at least.
	keptMost = 72 * time.Hour
	// usesMost bounds how many are kept; each takes a block of a disk.
	usesMost  = 8192
	useOnDisk = 4 << 10

	// sendLeast and sendSpan are between two reports: drawn, so that they do not tell when
	// which command ran. retryLeast and retrySpan are after one that was not taken: so that
	// it is within the hour after the other side is there again.
	sendLeast, sendSpan   = 6 * time.Hour, 12 * time.Hour
	retryLeast, retrySpan = 10 * time.Minute, 20 * time.Minute
)

// Names in the directory of a Store.
const (
	settingsFile = "settings.json"
	nextFile     = "next"
	keptDir      = "kept"
)

// ErrOff says that the user has not said that anything may be told.
var ErrOff = errors.New("the command line tells nothing of its use; nyx telemetry on --url URL has it do so")

// Settings are what the user has said.
type Settings struct {
	// URL gets the reports; Through is a proxy by which it does, "" for none: then it sees
	// this machine's address.
	URL     string `json:"url"`
	Through string `json:"through,omitempty"`
}

// Store is what is kept until it is told. Several processes may have it open.
type Store struct {
	Settings
	dir    string
	spool  *spool.Spool
	random io.Reader
}

// Allow has commands told from now on, and how; dir is a directory of its own.
func Allow(dir string, s Settings) error {
	if err := s.check(); err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = setup.ReplaceFile(filepath.Join(dir, settingsFile), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep what was said about telemetry: %w", err)
	}
	return nil
}

// Forbid removes the settings and everything that is kept, with its key.
func Forbid(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove what is kept of telemetry: %w", err)
	}
	return nil
}

// Open opens what is kept, with the key in its directory. It is ErrOff unless Allow was
// called. random is nil for the operating system's.
func Open(dir string, random io.Reader, now time.Time) (*Store, error) {
	b, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrOff
	}
	s := &Store{dir: dir, random: cmp.Or[io.Reader](random, rand.Reader)}
	if err == nil {
		err = json.Unmarshal(b, &s.Settings)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; nyx telemetry on writes it anew", filepath.Join(dir, settingsFile), err)
	}
	key, err := setup.LoadOrMakeSpoolKey(dir)
	if err != nil {
		return nil, err
	}
	s.spool, err = spool.Open(filepath.Join(dir, keptDir), key, spool.Limits{Age: keptMost, Bytes: usesMost * useOnDisk}, now)
	return s, err
}

// Ended keeps a command that has ended, and tells what is kept if it is time: of how many
// commands. It is ErrOff, and nothing else, unless Allow was called.
func Ended(ctx context.Context, dir string, random io.Reader, now time.Time, u Use) (told int, err error) {
	s, err := Open(dir, random, now)
	if err == nil {
		err = s.Add(now, u)
	}
	if err != nil {
		return 0, err
	}
	return s.Tend(ctx, now)
}

// Add keeps a command.
func (s *Store) Add(now time.Time, u Use) error {
	c, err := u.count(now)
	if err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	return s.spool.Put(day(now), b)
}

// Report is what is kept: exactly what would be sent.
func (s *Store) Report(now time.Time) (Report, error) {
	r, _, err := s.report(now)
	return r, err
}

func (s *Store) report(now time.Time) (Report, []spool.Entry, error) {
	all, err := s.spool.List(now)
	if err != nil {
		return Report{}, nil, err
	}
	var kept [][]byte
	for _, e := range all {
		b, ok, err := s.spool.Read(e)
		if err != nil {
			return Report{}, nil, err
		}
		if ok {
			kept = append(kept, b)
		}
	}
	return sum(kept), all, nil
}

// Send tells what is kept, and says of how many commands. What is taken is kept no more.
func (s *Store) Send(ctx context.Context, now time.Time) (int, error) {
	r, all, err := s.report(now)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	if err := s.post(ctx, &r); err != nil {
		return 0, err
	}
	for _, e := range all {
		err = errors.Join(err, s.spool.Taken(e))
	}
	return r.Backlog, err
}

// Tend tells what is kept if it is time, and draws when it will be again: in 6 to 18 hours, or
// 10 to 30 minutes after a failure. That stands on disk before anything is sent, so that of
// two commands that end together one tells.
func (s *Store) Tend(ctx context.Context, now time.Time) (sent int, err error) {
	next, err := s.Next()
	switch {
	case err != nil:
		return 0, err
	case next.IsZero():
		return 0, s.wait(now, sendLeast, sendSpan)
	case now.Before(next) && next.Sub(now) <= sendLeast+sendSpan: // else the clock was set back
		return 0, nil
	}
	if err := s.wait(now, retryLeast, retrySpan); err != nil {
		return 0, err
	}
	if sent, err = s.Send(ctx, now); err != nil {
		return sent, err
	}
	return sent, s.wait(now, sendLeast, sendSpan)
}

// Next is when Tend tells again; zero: it was not drawn yet.
func (s *Store) Next() (time.Time, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, nextFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot read when telemetry is due: %w", err)
	}
	var next time.Time
	if next.UnmarshalText(b) != nil {
		return time.Time{}, nil // cut: it is drawn anew
	}
	return next, nil
}

func (s *Store) wait(now time.Time, least, more time.Duration) error {
	var b [8]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	drawn := least + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(more))
	text, err := now.Add(drawn).UTC().Truncate(time.Second).MarshalText()
	if err == nil {
		err = setup.ReplaceFile(filepath.Join(s.dir, nextFile), text)
	}
	if err != nil {
		return fmt.Errorf("cannot keep when telemetry is due: %w", err)
	}
	return nil
}

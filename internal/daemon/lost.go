package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/setup"
)

// A process that ends as it is meant to takes with it what it has put into the directory
// of standings. One that is killed leaves a note of who it was, and when it last was.

const (
	// noteSuffix is that of the notes' names, beside the sockets'.
	noteSuffix = ".json"
	// noteEvery is how often the note is touched: when a process was last seen is known
	// to within that.
	noteEvery = time.Minute
	// lostTold is for how long a process that was lost is told of: who has not missed it
	// by then does not.
	lostTold = 7 * 24 * time.Hour
)

// Lost is a process that ended without a word: it was killed, or broke down.
type Lost struct {
	Standing           // as it was at the start, without parts
	Seen     time.Time `json:"seen"` // when it ran, and noteEvery later no more
	Note     string    `json:"note"` // the file that says so
}

// notePath is that of the note beside a socket.
func notePath(socket string) string { return strings.TrimSuffix(socket, standingSuffix) + noteSuffix }

// leaveNote says who a process is that begins, in place of those whose work it goes on
// with.
func leaveNote(socket string, about *Standing) error {
	lost, _ := LostIn(filepath.Dir(socket)) // a note that cannot be read is told to who asks
	for _, l := range lost {
		if l.Program == about.Program && l.Name == about.Name && l.Network == about.Network {
			os.Remove(l.Note)
		}
	}
	b, err := json.Marshal(about)
	if err != nil {
		return err
	}
	return setup.ReplaceFile(notePath(socket), b)
}

// LostIn are the processes that were lost of those that show themselves in a directory, the
// last seen first.
func LostIn(dir string) (all []Lost, err error) {
	notes, err := filepath.Glob(filepath.Join(dir, "*"+noteSuffix))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, note := range notes {
		if listens(strings.TrimSuffix(note, noteSuffix) + standingSuffix) {
			continue
		}
		l, err := readNote(note)
		switch {
		case errors.Is(err, os.ErrNotExist): // it has ended as it is meant to, just now
		case err != nil:
			errs = append(errs, err)
		case time.Since(l.Seen) > lostTold:
			os.Remove(note)
		default:
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b Lost) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Note, b.Note)) })
	return all, errors.Join(errs...)
}

func readNote(path string) (l Lost, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	at, err := os.Stat(path)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(b, &l.Standing); err != nil {
		return l, fmt.Errorf("%s is no note of a process (%w); remove it", path, err)
	}
	l.Seen, l.Note = at.ModTime(), path
	return l, nil
}

// listens reports whether somebody may be there behind a socket.
func listens(socket string) bool {
	c, err := net.DialTimeout("unix", socket, standingWait)
	if err != nil {
		return !gone(err)
	}
	c.Close()
	return true
}

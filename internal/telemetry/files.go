package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nyxnet/nyx/internal/metric"
)

const (
	// filesInBudget is in how many files a budget is cut: what is lost when the oldest
	// goes is a tenth of what there is.
	filesInBudget = 10
	// filesKept is how many of them there are at most, with the one that grows: files
	// stay below 80 % of their budget (SCL-041), so that a disk that is planned by it has
	// room for what else grows in a bad hour.
	filesKept = 7
	// BudgetLeast is a budget of which a file holds some hundred lines.
	BudgetLeast = 1 << 20
)

// Files is a log in files that do not outgrow a budget, however much is written: NAME
// grows, and when it has its part it becomes NAME.1, NAME.2 and so on, of which the oldest
// go. It is an io.Writer of whole lines, safe for concurrent use.
type Files struct {
	path   string
	budget int64
	keep   bool // nothing is removed: the control of SCL-041

	mu   sync.Mutex
	file *os.File
	size int64   // of file
	old  []int64 // sizes of the others, oldest first
	last uint64  // number of the newest of them
	lost uint64  // lines that could not be written
}

// OpenFiles goes on with the log of a path. What is there from before counts.
func OpenFiles(path string, budget int64) (*Files, error) {
	if budget < BudgetLeast {
		return nil, fmt.Errorf("a log in %d bytes holds nothing; the least is %d", budget, BudgetLeast)
	}
	f := &Files{path: path, budget: budget}
	if err := f.find(); err != nil {
		return nil, err
	}
	return f, f.open()
}

// Unbounded has nothing removed, for the control of SCL-041. Call it before the first
// line.
func (f *Files) Unbounded() { f.keep = true }

// find looks for the files of before.
func (f *Files) find() error {
	names, err := filepath.Glob(f.path + ".*")
	if err != nil {
		return fmt.Errorf("log files: %w", err)
	}
	var numbers []uint64
	for _, name := range names {
		if n, err := strconv.ParseUint(strings.TrimPrefix(name, f.path+"."), 10, 64); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		info, err := os.Stat(f.name(n))
		if err != nil {
			return fmt.Errorf("log files: %w", err)
		}
		if i > 0 && n != numbers[i-1]+1 { // what is before a gap was removed half-way
			if err := f.remove(numbers[:i]); err != nil {
				return err
			}
			f.old = f.old[:0]
		}
		f.old, f.last = append(f.old, info.Size()), n
	}
	return nil
}

func (f *Files) name(n uint64) string { return f.path + "." + strconv.FormatUint(n, 10) }

func (f *Files) remove(numbers []uint64) error {
	for _, n := range numbers {
		if err := os.Remove(f.name(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("log files: %w", err)
		}
	}
	return nil
}

func (f *Files) open() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log file: %w; log.file must be in a directory that may be written to", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("log file: %w", err), file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}

// Write appends a line. A line that cannot be written is counted, and the next one is
// tried again.
func (f *Files) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.turn(int64(len(line)))
	n := 0
	if err == nil {
		n, err = f.file.Write(line)
		f.size += int64(n)
	}
	if err != nil {
		f.lost++
	}
	return n, err
}

// turn makes room for a line.
func (f *Files) turn(more int64) error {
	if f.file != nil && (f.size == 0 || f.size+more <= f.budget/filesInBudget) {
		return nil
	}
	if f.file != nil {
		if err := f.file.Close(); err != nil {
			return err
		}
		f.file = nil
		if err := os.Rename(f.path, f.name(f.last+1)); err != nil {
			return err
		}
		f.last, f.old = f.last+1, append(f.old, f.size)
	}
	for !f.keep && len(f.old) >= filesKept {
		if err := f.remove([]uint64{f.last + 1 - uint64(len(f.old))}); err != nil {
			return err
		}
		f.old = f.old[1:]
	}
	return f.open()
}

// Volume is what the files take, in bytes, and their budget.
func (f *Files) Volume() (bytes, budget int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bytes = f.size
	for _, n := range f.old {
		bytes += n
	}
	return bytes, f.budget
}

// WriteMetrics writes what the files take.
func (f *Files) WriteMetrics(to *metric.Page) {
	bytes, budget := f.Volume()
	to.Add("log_volume_bytes", float64(bytes))
	to.Add("log_volume_share", float64(bytes)/float64(budget))
	f.mu.Lock()
	defer f.mu.Unlock()
	to.Add("log_lines_lost_total", float64(f.lost))
}

// Close ends the log.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

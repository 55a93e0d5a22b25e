package report

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// daysDir is beside the log.
	daysDir   = "days"
	daySuffix = ".day"
	signDay   = "nyx audit day 1"
	// stepEntries is how many entries are counted between two calls of Step.
	stepEntries = 1 << 16
)

// Days counts the days of a log, each once: what was counted of a day that is over is
// kept, signed, and taken again as long as the day's segments are what they were. It is
// safe for concurrent use: who comes second finds what the first has counted.
type Days struct {
	Store *ledger.Store
	Key   *audit.LogKey
	// Signer signs with the log's key what is kept.
	Signer *seal.Signer
	// Dir is where it is kept; "" for the folder days of the log's directory.
	Dir string
	// Anew counts every day each time and keeps none: what a scenario's control does.
	Anew bool

	mu sync.Mutex
}

// Step is called between batches of work with the number of entries before which all
// is counted; an error ends the work.
type Step func(ctx context.Context, entries int64) error

type stepKey struct{}

// WithStep has work under ctx call a function between batches.
func WithStep(ctx context.Context, f Step) context.Context {
	return context.WithValue(ctx, stepKey{}, f)
}

func step(ctx context.Context, entries int64) error {
	if f, ok := ctx.Value(stepKey{}).(Step); ok {
		return f(ctx, entries)
	}
	return ctx.Err()
}

// Log is what is known of a log, and of some of its days.
type Log struct {
	Days    []*Day     // of the period, in order
	At      audit.Mark // where the period begins, if it has no days
	Removed int64      // entries that retention has removed so far
	Holes   []Hole     // in the period

	roots map[int64]string // over so many entries
}

// Hole is of entries that were removed before they were counted, after one day (""
// from the beginning) and before another.
type Hole struct {
	Entries       int64
	After, Before string
}

// Read returns the days from one on, before another, once the log was verified up to
// its newest checkpoint: of days that were counted before, by what was kept and the
// digests of their segments; of all others, entry by entry.
func (d *Days) Read(ctx context.Context, from, to audit.Day) (log *Log, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range moveTries {
		if log, err = d.read(ctx, from, to); !errors.Is(err, errMoved) {
			break
		}
	}
	return log, err
}

// errMoved means that segments were removed while they were read.
var errMoved = errors.New("report: retention removes days of the log just now; make the report again")

// moveTries is how often a log is read that retention shortens meanwhile: it does so
// once a day.
const moveTries = 3

func (d *Days) read(ctx context.Context, from, to audit.Day) (*Log, error) {
	begin, err := d.Store.Begin() // first: the event of a removal is signed before it is made
	if err != nil {
		return nil, err
	}
	note, err := d.Store.Last()
	if err != nil {
		return nil, err
	}
	if note == nil {
		return nil, ledger.ErrUnsigned
	}
	newest, err := d.Key.Open(note)
	if err != nil {
		return nil, err
	}
	segments, err := d.Store.Segments() // later, so that they hold what is signed
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 {
		return nil, &audit.Fault{First: 0, Last: newest.Size - 1, What: fmt.Sprintf("they are missing: there is no segment, and %d were signed", newest.Size)}
	}
	if segments[0].First != begin {
		return nil, errMoved
	}
	kept, err := d.kept(ctx, segments, from, to)
	if err != nil {
		return nil, err
	}
	fresh, err := d.count(ctx, kept, segments, newest)
	if err != nil {
		return nil, err
	}
	return selected(append(kept, fresh...), segments[0].First, from, to)
}

// selected cuts out a period.
func selected(all []*Day, begin int64, from, to audit.Day) (*Log, error) {
	log := &Log{Removed: begin, roots: map[int64]string{}}
	var prev *Day
	for _, day := range all {
		log.note(&day.Start)
		log.note(&day.End)
		after, end := audit.Day(0), int64(0)
		h := Hole{Before: day.Date}
		if prev != nil {
			after, end, h.After = prev.day+1, prev.End.Size, prev.Date
		}
		if h.Entries = day.Start.Size - end; h.Entries > 0 && after < to && day.day > from {
			log.Holes = append(log.Holes, h)
		}
		switch {
		case day.day < from:
			log.At = day.End
		case day.day < to:
			log.Days = append(log.Days, day)
		}
		prev = day
	}
	if err := log.prove(all); err != nil {
		return nil, err
	}
	covered := begin == 0
	for _, day := range all {
		for _, r := range day.removals() { // one that was interrupted has left some of what it says
			covered = covered || r.Count >= begin && r.Fits
		}
	}
	if !covered {
		return nil, &audit.Fault{First: 0, Last: begin - 1, What: "they are missing, and no retention event says that they were removed"}
	}
	return log, nil
}

func (l *Log) note(m *audit.Mark) { l.roots[m.Size] = rootOf(m) }

// rootOf writes a root as retention events do.
func rootOf(m *audit.Mark) string {
	root := m.Root()
	return hex.EncodeToString(root[:])
}

// prove compares the roots of removals with those that were verified.
func (l *Log) prove(all []*Day) error {
	for _, day := range all {
		for i := range day.Levels {
			for n := range day.Levels[i].Removals {
				r := &day.Levels[i].Removals[n]
				root, known := l.roots[r.Count]
				if known && root != r.Root {
					return &audit.Fault{First: r.Seq, Last: r.Seq, What: fmt.Sprintf("it says that %d entries of root %s were removed, and their root is %s", r.Count, r.Root, root)}
				}
				r.Fits = known
			}
		}
	}
	return nil
}

// kept reads the days that were counted, up to the first that is not to be trusted:
// from that one on they are counted anew. Segments of days of the period are compared
// with what they were.
func (d *Days) kept(ctx context.Context, segments []ledger.Segment, from, to audit.Day) (out []*Day, err error) {
	if d.Anew {
		return nil, nil
	}
	names, err := filepath.Glob(filepath.Join(d.dir(), "*"+daySuffix))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	prev := &Day{}
	for _, path := range names { // sorted, and names sort by day
		day := d.load(path)
		if day == nil || !follows(prev, day, segments[0].First) {
			return out, nil
		}
		if day.day >= from && day.day < to {
			same, err := d.unchanged(ctx, day, segments)
			if err != nil || !same {
				return out, err
			}
		}
		out, prev = append(out, day), day
	}
	return out, nil
}

// follows reports whether b goes on where a ends, or after what was removed before it
// was counted: entries before begin.
func follows(a, b *Day, begin int64) bool {
	return b.day > a.day && (b.Start.Equal(&a.End) || b.Start.Size > a.End.Size && b.Start.Size <= begin)
}

// signed is how a day is kept.
type signed struct {
	Day json.RawMessage `json:"day"`
	Sig []byte          `json:"sig"`
}

// load reads a day; nil if it is none that this log has signed.
func (d *Days) load(path string) *Day {
	b, err := os.ReadFile(path)
	var s signed
	if err != nil || json.Unmarshal(b, &s) != nil || seal.Verify(d.Key.Public, signDay, s.Day, s.Sig) != nil {
		return nil
	}
	day := &Day{}
	if json.Unmarshal(s.Day, day) != nil || day.Version != dayVersion || day.Origin != d.Key.Origin || day.Date+daySuffix != filepath.Base(path) {
		return nil
	}
	t, err := time.Parse(time.DateOnly, day.Date)
	if err != nil {
		return nil
	}
	day.day = audit.DayOf(t)
	return day
}

func (d *Days) save(day *Day) error {
	if d.Anew {
		return nil
	}
	b, err := json.Marshal(day)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	sig, err := d.Signer.Sign(signDay, b)
	if err == nil {
		b, err = json.Marshal(signed{b, sig})
	}
	if err == nil {
		err = os.MkdirAll(d.dir(), 0o700)
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return ledger.WriteFile(filepath.Join(d.dir(), day.Date+daySuffix), b)
}

func (d *Days) dir() string {
	if d.Dir != "" {
		return d.Dir
	}
	return filepath.Join(d.Store.Dir, daysDir)
}

// unchanged reports whether the log still holds of a day what it held when it was
// counted, or the hashes of it.
func (d *Days) unchanged(ctx context.Context, day *Day, segments []ledger.Segment) (bool, error) {
	var there []string
	for _, s := range segments {
		if s.First >= day.Start.Size && s.First < day.End.Size {
			there = append(there, s.Name)
		}
	}
	if len(there) == 0 && day.End.Size <= segments[0].First {
		end, err := d.Store.VerifyFrom(ctx, &day.Start, nil, day.End.Size, nil)
		if err == nil && !end.Equal(&day.End) {
			err = &audit.Fault{First: day.Start.Size, Last: day.End.Size - 1, What: "they were removed, and the hashes that are there are not theirs"}
		}
		return err == nil, err
	}
	if !slices.Equal(there, day.names()) {
		return false, nil
	}
	for _, s := range day.Segments {
		h, err := d.Store.Digest(s.Name)
		if errors.Is(err, os.ErrNotExist) {
			return false, errMoved // it was there when they were listed
		}
		if err != nil || audit.Digest(h) != s.Digest {
			return false, err
		}
		if err := step(ctx, day.Start.Size); err != nil {
			return false, err
		}
	}
	return true, nil
}

// count verifies and counts what follows the days that were kept, up to the newest
// checkpoint. Each day that is over is kept once a checkpoint after it was compared.
func (d *Days) count(ctx context.Context, kept []*Day, segments []ledger.Segment, newest *audit.Checkpoint) (out []*Day, err error) {
	var mark audit.Mark
	if n := len(kept); n > 0 {
		mark = kept[n-1].End
	}
	if mark.Size > newest.Size {
		return nil, &audit.Fault{First: newest.Size, Last: mark.Size - 1, What: fmt.Sprintf("the checkpoints end at %d, and %d were verified: those between are missing", newest.Size, mark.Size)}
	}
	checkpoints, err := d.Store.Signed(d.Key, mark.Size)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(checkpoints, func(a, b *audit.Checkpoint) int { return int(min(max(a.Size-b.Size, -1), 1)) })
	if removed := min(segments[0].First, newest.Size); mark.Size < removed {
		if mark, err = d.Store.VerifyFrom(ctx, &mark, checkpoints, removed, nil); err != nil {
			return nil, err
		}
	}
	safe := 0 // of out: kept
	for i := 0; i < len(segments); {
		first := i
		for i < len(segments) && segments[i].Day == segments[first].Day {
			i++
		}
		before := newest.Size
		if i < len(segments) {
			before = min(before, segments[i].First)
		}
		if before <= mark.Size || segments[first].First < mark.Size {
			continue
		}
		c := newCounter(d.Key.Origin, segments[first].Day, mark, checkpoints)
		if c.open = i == len(segments) || before < segments[i].First; !c.open {
			if err := d.digest(c.Day, segments[first:i]); err != nil {
				return nil, err
			}
		}
		if mark, err = d.verify(ctx, c, before); err != nil {
			return nil, err
		}
		out = append(out, c.finish(mark))
		compared := lastSigned(checkpoints, before)
		for ; safe < len(out) && !out[safe].open && out[safe].End.Size <= compared; safe++ {
			if err := d.save(out[safe]); err != nil {
				return nil, err
			}
		}
	}
	if mark.Size < newest.Size {
		return nil, &audit.Fault{First: mark.Size, Last: newest.Size - 1, What: fmt.Sprintf("they are missing: the log ends before them, and %d were signed", newest.Size)}
	}
	return out, nil
}

// verify verifies the entries of a day and counts them.
func (d *Days) verify(ctx context.Context, c *counter, before int64) (audit.Mark, error) {
	n := int64(0)
	end, err := d.Store.VerifyFrom(ctx, &c.Start, c.checkpoints, before, func(e audit.Entry) error {
		c.add(&e)
		if n++; n%stepEntries == 0 {
			return step(ctx, e.Seq+1)
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) || err == nil && n != before-c.Start.Size {
		err = errMoved
	}
	return end, err
}

// digest notes what the segments of a day that is over are, before they are verified:
// who changes one meanwhile leaves it another than what is noted.
func (d *Days) digest(day *Day, segments []ledger.Segment) error {
	for _, s := range segments {
		h, err := d.Store.Digest(s.Name)
		if errors.Is(err, os.ErrNotExist) {
			return errMoved
		}
		if err != nil {
			return err
		}
		day.Segments = append(day.Segments, Segment{s.Name, audit.Digest(h)})
	}
	return nil
}

// lastSigned is the size of the last checkpoint of at most so many entries.
func lastSigned(checkpoints []*audit.Checkpoint, before int64) (size int64) {
	for _, c := range checkpoints {
		if c.Size <= before {
			size = max(size, c.Size)
		}
	}
	return size
}

package worm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/s3"
)

// The copy follows the log through segments and restarts: at every look it verifies and
// has all that was signed, and no byte was put twice.
func TestCopyFollows(t *testing.T) {
	inBubble(t, func(f *fixture) {
		c := f.copier()
		if _, err := Restore(f.Context(), f.place, f.TempDir(), 0, time.Now(), nil); !errors.Is(err, s3.ErrNone) {
			f.Errorf("a copy of nothing: %v", err)
		}
		entries := int64(0)
		for range 5 {
			f.record(70, true)
			entries += 70
			time.Sleep(f.config().Every + time.Second)
			synctest.Wait()
			f.wantCopy(entries)
			if got := c.Figures(); got.Entries != entries || got.Behind != 0 || got.Lag != 0 || got.Faults != 0 {
				f.Errorf("%+v", got)
			}
		}
		f.record(10, false) // not signed: a crash of the machine may take it
		time.Sleep(3 * f.config().Every)
		synctest.Wait()
		f.wantCopy(entries)
		if got := c.Figures(); got.Behind != 10 || got.Lag == 0 {
			f.Errorf("%+v", got)
		}
		c.Close()
		f.close()
		f.open()
		f.record(50, true)
		c = f.copier()
		_, r := f.wantCopy(entries + 60)
		c.Close()
		bytes := int64(0)
		for key, versions := range f.bucket.objects {
			bytes += int64(len(versions[0].content))
			keep := f.keep
			if shared(strings.TrimPrefix(key[:strings.LastIndexByte(key, '/')], f.place.Prefix)) {
				keep += keep/2 + lookEvery
			}
			if left := time.Until(versions[0].until); len(versions) != 1 || left > keep || left < keep-time.Hour {
				f.Errorf("%s has %d versions, the first locked for %v", key, len(versions), left)
			}
		}
		if r.Bytes != bytes || r.Objects != f.bucket.puts || r.Locked != r.Objects || r.Upon != 0 || r.Files < 5 {
			f.Errorf("%+v of %d bytes in %d objects", r, bytes, f.bucket.puts)
		}
		if segments, _ := f.log.Store().Segments(); len(segments) < 3 {
			f.Errorf("%d segments", len(segments))
		}
	})
}

// While the server is away the log goes on, and the copy follows when it is back.
// Events say so once each. Retention removes nothing that has no copy.
func TestServerAway(t *testing.T) {
	inBubble(t, func(f *fixture) {
		var told []string
		c := f.copier(func(cfg *Config) {
			cfg.Tell = func(_ context.Context, severity audit.Severity, action, _ string) error {
				told = append(told, fmt.Sprint(severity, " ", action))
				return nil
			}
		})
		defer c.Close()
		f.record(100, true)
		time.Sleep(2 * time.Minute)
		f.bucket.away(errors.New("connection refused"))
		for range 24 {
			time.Sleep(time.Hour)
			f.record(20, true)
		}
		synctest.Wait()
		got := c.Figures()
		if got.Behind != 480 || got.Lag < 23*time.Hour || got.Faults < 24*10 || got.Faults > 24*14 || got.Why != "connection refused" {
			f.Errorf("%+v", got)
		}
		if !slices.Equal(told, []string{"warning copy.behind"}) {
			f.Errorf("told %v", told)
		}
		f.bucket.away(nil)
		time.Sleep(againMost + time.Second)
		synctest.Wait()
		f.wantCopy(580)
		if got := c.Figures(); got.Behind != 0 || got.Why != "" {
			f.Errorf("%+v", got)
		}
		if !slices.Equal(told, []string{"warning copy.behind", "notice copy.resumed"}) {
			f.Errorf("told %v", told)
		}
	})
}

// A server that is away when the process starts is waited for.
func TestAwayAtStart(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(30, true)
		f.bucket.away(errors.New("connection refused"))
		c := f.copier()
		defer c.Close()
		f.bucket.away(nil)
		time.Sleep(againMost)
		synctest.Wait()
		f.wantCopy(30)
	})
}

// An answer that is lost, and a request that is cut at any point, leave no part missing
// and none twice; nor on a server that puts upon what is there.
func TestLostAnswers(t *testing.T) {
	for _, careless := range []bool{false, true} {
		inBubble(t, func(f *fixture) {
			f.bucket.careless = careless
			f.record(300, true)
			n := 0
			f.bucket.lose = func(string) error {
				if n++; n%3 == 0 {
					return errors.New("the connection was reset")
				}
				return nil
			}
			m := 0
			f.bucket.fail = func(string, string) error {
				if m++; m%17 == 0 {
					return errors.New("the connection was cut")
				}
				return nil
			}
			c := f.copier()
			for range 10 {
				time.Sleep(againMost + time.Minute)
				f.record(20, true)
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			c.Close()
			f.bucket.fail = nil
			if _, r := f.wantCopy(500); r.Upon != 0 {
				f.Errorf("%+v", r)
			}
			if c.Figures().Faults < 5 {
				f.Errorf("%+v", c.Figures())
			}
		})
	}
}

// Wherever the copying ends, what is there verifies.
func TestEveryMoment(t *testing.T) {
	inBubble(t, func(f *fixture) {
		for range 4 {
			f.record(70, true)
			f.copier().Close()
		}
		whole := f.bucket.objects
		for n := range f.bucket.order {
			if n == 0 {
				continue
			}
			f.bucket.objects = map[string][]version{}
			for _, key := range f.bucket.order[:n] {
				f.bucket.objects[key] = whole[key]
			}
			dir := filepath.Join(f.TempDir(), "restored")
			if _, err := Restore(f.Context(), f.place, dir, 0, time.Now(), nil); err != nil {
				f.Fatalf("after %d of %d objects: %v", n, len(f.bucket.order), err)
			}
			key := f.log.Key()
			if _, _, err := (&ledger.Store{Dir: dir, Wrapper: f.cfg.Wrapper}).Verify(f.Context(), &key, nil, nil); err != nil {
				f.Errorf("after %d of %d objects, the last of which is %s: %v", n, len(f.bucket.order), f.bucket.order[n-1], err)
			}
		}
	})
}

// A part that is there already is taken if it is the log's, as when its answer was lost,
// however long it is.
func TestPartIsThere(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(10, true)
		key, err := os.ReadFile(filepath.Join(f.cfg.Dir, "log.key"))
		if err != nil {
			f.Fatal(err)
		}
		c := f.copier()
		f.record(10, true)
		f.bucket.mu.Lock()
		extents, _, err := f.log.Store().Settled(f.Context())
		last := extents[len(extents)-1] // checkpoints
		if err != nil || len(c.parts[last.Name]) != 1 {
			f.Fatalf("%v, %v", c.parts, err)
		}
		notes, err := os.ReadFile(filepath.Join(f.cfg.Dir, last.Name))
		if err != nil {
			f.Fatal(err)
		}
		// A part is there that the copier has not put: half of what it would put.
		at := c.parts[last.Name][0].Size
		f.bucket.plant(f.place.key(last.Name, at), notes[at:at+(last.Bytes-at)/2], time.Now().Add(f.keep))
		f.bucket.mu.Unlock()
		time.Sleep(f.config().Every + time.Second)
		synctest.Wait()
		f.wantCopy(20)
		c.Close()

		// What somebody else has put there is not taken for the log's.
		f.record(10, true)
		f.bucket.plant(f.place.key(last.Name, last.Bytes), key, time.Now().Add(f.keep))
		if _, err := f.start(); !errors.Is(err, ErrOther) {
			f.Errorf("started upon what somebody else has put: %v", err)
		}
	})
}

// Places that a copy cannot be in are refused at the start, in one line that says why.
func TestRefused(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(f *fixture)
		is    error
		says  string
	}{
		"no object lock":      {func(f *fixture) { f.bucket.unlocked = true }, s3.ErrUnlocked, "no object lock"},
		"another key":         {func(f *fixture) { f.bucket.away(s3.ErrRefused) }, s3.ErrRefused, "refused"},
		"no bucket":           {func(f *fixture) { f.bucket.away(s3.ErrNone) }, s3.ErrNone, "not there"},
		"another log":         {func(f *fixture) { f.other() }, ErrOther, "another"},
		"a log that was lost": {func(f *fixture) { f.again() }, ErrOther, "nyx audit restore"},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.record(30, true)
				f.copier().Close()
				c.spoil(f)
				_, err := f.start()
				if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
					f.Errorf("%v", err)
				}
				if f.bucket.puts > 3 {
					f.Errorf("%d objects put", f.bucket.puts)
				}
			})
		})
	}
}

// other makes the log one of another key, of which more is signed than of this one.
func (f *fixture) other() {
	f.close()
	keys, err := ledger.OpenFileKeys(f.TempDir(), true)
	if err != nil {
		f.Fatal(err)
	}
	f.cfg.Dir, f.cfg.Signer, f.cfg.Wrapper = filepath.Join(f.TempDir(), "other"), keys.Signer, keys.Wrapper
	f.open()
	f.record(300, true)
	f.record(300, true)
}

// again makes the log anew under its own keys, as if its directory had been lost.
func (f *fixture) again() {
	f.close()
	if err := os.RemoveAll(f.cfg.Dir); err != nil {
		f.Fatal(err)
	}
	f.open()
}

// A log that was restored from its copy goes on, in the same copy.
func TestRestoredGoesOn(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(200, true)
		f.copier().Close()
		f.close()
		f.cfg.Dir, _ = f.wantCopy(200)
		f.open()
		f.record(25, true)
		f.copier().Close()
		f.wantCopy(225)
	})
}

// What retention removes stays in the copy, whole, until its lock is over; and nothing
// is removed that has no copy.
func TestRetention(t *testing.T) {
	inBubble(t, func(f *fixture) {
		var c *Copier
		f.close()
		f.cfg.Copied = func() int64 { return c.Copied() }
		f.open()
		f.record(100, true)
		c = f.copier()
		time.Sleep(24 * time.Hour)
		f.bucket.away(errors.New("connection refused"))
		f.record(100, true)
		time.Sleep(24 * time.Hour)
		f.record(5, true)
		tomorrow := audit.DayOf(time.Now()) + 1
		if r, err := f.log.Prune(f.Context(), tomorrow); err != nil || r.Entries() != 100 || r.Waiting != 1 {
			f.Errorf("of what has a copy and what has none: %+v, %v", r, err)
		}
		f.bucket.away(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		if r, err := f.log.Prune(f.Context(), tomorrow); err != nil || r.Entries() != 100 || r.Waiting != 0 {
			f.Errorf("%+v, %v", r, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		c.Close()
		f.wantCopy(f.log.Size()) // all of it

		// Locks are over, and a rule of the bucket has removed what retention had.
		begin, err := f.log.Store().Begin()
		if err != nil || begin < 150 {
			f.Fatal(begin, err)
		}
		segments, err := f.log.Store().Segments()
		if err != nil {
			f.Fatal(err)
		}
		for key := range f.bucket.objects {
			if file := strings.TrimPrefix(key, f.place.Prefix+segmentsDir); file != key && file < segments[0].Name {
				delete(f.bucket.objects, key)
			}
		}
		f.wantCopy(f.log.Size() - begin)
		c = f.copier()
		c.Close()
	})
}

// What somebody puts upon the objects of a copy changes nothing of what is read, and is
// said. A part that is gone is missed.
func TestPutUpon(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(100, true)
		f.copier().Close()
		for key := range f.bucket.objects {
			f.bucket.upon(key, "forged")
		}
		if _, r := f.wantCopy(100); r.Upon != len(f.bucket.objects) {
			f.Errorf("%+v", r)
		}
		c := f.copier() // and does not stop the copying
		f.record(10, true)
		time.Sleep(time.Hour)
		synctest.Wait()
		c.Close()
		f.wantCopy(110)
		delete(f.bucket.objects, f.place.key(checkpointsFile, 0))
		if _, err := Restore(f.Context(), f.place, f.TempDir(), 0, time.Now(), nil); err == nil || !strings.Contains(err.Error(), "are missing") {
			f.Errorf("a copy without its beginning: %v", err)
		}
		f.copier().Close() // which is put again
		f.wantCopy(110)
	})
}

// A directory that holds something is not written to, and names that are none of a
// log's are not files of one.
func TestRestoreIsCareful(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(10, true)
		f.copier().Close()
		for _, key := range []string{"control-1/../escape/000000000000", "control-1/segments/../../x.seg/000000000000", "control-1/sign.key/000000000000", "control-1/log.key/1", "control-1/log.key/-00000000001"} {
			f.bucket.plant(key, []byte("planted"), time.Now())
		}
		dir, _ := f.wantCopy(10)
		if _, err := Restore(f.Context(), f.place, dir, 0, time.Now(), nil); err == nil || !strings.Contains(err.Error(), "not empty") {
			f.Errorf("restored upon a log: %v", err)
		}
	})
}

// Holes are found wherever they are, and are no longer than an object can be.
func TestHole(t *testing.T) {
	row := func(bounds ...int64) (out []part) {
		for i := 0; i < len(bounds); i += 2 {
			out = append(out, part{Object: s3.Object{Size: bounds[i+1] - bounds[i]}, at: bounds[i]})
		}
		return out
	}
	for _, c := range []struct {
		parts          []part
		size, from, to int64
	}{
		{nil, 0, 0, 0},
		{nil, 7, 0, 7},
		{nil, 20 << 20, 0, s3.ContentMax},
		{row(0, 5), 5, 5, 5},
		{row(0, 5), 9, 5, 9},
		{row(0, 5, 7, 9), 9, 5, 7},
		{row(3, 9), 9, 0, 3},
		{row(0, 5, 3, 8), 9, 8, 9},
		{row(0, 9), 5, 5, 5},
		{row(0, 5, 40<<20, 41<<20), 41 << 20, 5, 5 + s3.ContentMax},
	} {
		if from, to := hole(c.parts, c.size); from != c.from || to != c.to {
			t.Errorf("of %d bytes with %v: %d to %d, not %d to %d", c.size, c.parts, from, to, c.from, c.to)
		}
	}
}

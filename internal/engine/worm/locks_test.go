package worm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
)

// fileOf is the file of which an object is a part.
func (f *fixture) fileOf(key string) string {
	return strings.TrimPrefix(key[:strings.LastIndexByte(key, '/')], f.place.Prefix)
}

// wantLocked wants the first version of each object locked: a segment's for what is left
// of keep since its day began, at least, and what is shared for longer than any segment.
func (f *fixture) wantLocked() {
	f.Helper()
	f.bucket.mu.Lock()
	defer f.bucket.mu.Unlock()
	last := time.Time{}
	for key, versions := range f.bucket.objects {
		if file := f.fileOf(key); !shared(file) {
			if until := versions[0].until; until.Before(dayOf(file).Add(f.keep)) {
				f.Errorf("at %v %s is locked until %v", time.Now(), key, until)
			} else if until.After(last) {
				last = until
			}
		}
	}
	for key, versions := range f.bucket.objects {
		if shared(f.fileOf(key)) && versions[0].until.Before(last) {
			f.Errorf("at %v %s is locked until %v, a segment until %v", time.Now(), key, versions[0].until, last)
		}
	}
}

// next is what the copier would put next of the newest segment: its key and content.
func (f *fixture) next() (key string, content []byte) {
	f.Helper()
	extents, _, err := f.log.Store().Settled(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	e := extents[len(extents)-2] // before the checkpoints
	b, err := os.ReadFile(filepath.Join(f.cfg.Dir, filepath.FromSlash(e.Name)))
	if err != nil {
		f.Fatal(err)
	}
	at := 0
	for key, versions := range f.bucket.objects {
		if f.fileOf(key) == e.Name {
			at += len(versions[0].content)
		}
	}
	return f.place.key(e.Name, int64(at)), b[at:e.Bytes]
}

// A server that takes locks and does not keep them has no copy, however often it is
// asked; when it keeps them, what is there is locked.
func TestLocksNotKept(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.bucket.deaf = true
		f.record(30, true)
		c := f.copier()
		defer c.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := c.Figures(); got.Entries != 0 || !strings.Contains(got.Why, s3.ErrUnlocked.Error()) {
			f.Errorf("%+v", got)
		}
		f.bucket.mu.Lock()
		f.bucket.deaf = false
		f.bucket.mu.Unlock()
		time.Sleep(2 * againMost)
		synctest.Wait()
		if got := c.Figures(); got.Behind != 0 || got.Why != "" {
			f.Errorf("%+v", got)
		}
		f.wantLocked()
		f.wantCopy(30)
	})
}

// Somebody who has the bucket's key puts the next part before the copier does, with the
// same bytes, and without a lock or with a short one. It is locked as the others are,
// whether the copier ran then or not.
func TestPutWithoutLock(t *testing.T) {
	for _, lock := range []time.Duration{0, time.Minute} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprint(lock, running), func(t *testing.T) {
				inBubble(t, func(f *fixture) {
					f.record(30, true)
					c := f.copier()
					if !running {
						c.Close()
					}
					f.record(10, true)
					f.bucket.mu.Lock()
					key, content := f.next()
					until := time.Time{}
					if lock > 0 {
						until = time.Now().Add(lock)
					}
					f.bucket.plant(key, content, until)
					f.bucket.mu.Unlock()
					if !running {
						c = f.copier()
					}
					time.Sleep(f.config().Every + time.Second)
					synctest.Wait()
					if got := c.Figures(); got.Behind != 0 || got.Faults != 0 {
						f.Errorf("%+v", got)
					}
					c.Close()
					f.wantLocked()
					if _, r := f.wantCopy(40); r.Unlocked != 0 || r.Upon != 0 {
						f.Errorf("%+v", r)
					}
				})
			})
		}
	}
}

// What somebody puts in the place of the next part while the process is down, as long as
// it is, is not taken for it.
func TestGarbageInHole(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(30, true)
		f.copier().Close()
		f.record(10, true)
		key, content := f.next()
		f.bucket.plant(key, bytes.Repeat([]byte{7}, len(content)), time.Now().Add(f.keep))
		c := f.copier()
		defer c.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := c.Figures(); got.Entries != 0 || got.Behind != 40 || !strings.Contains(got.Why, ErrOther.Error()) || !strings.Contains(got.Why, key) {
			f.Errorf("%+v", got)
		}
	})
}

// What all segments need is locked for longer than any of them, on every day, and also
// when the log is quiet; its locks are made longer no more often than that needs. The
// parts of one life are not read again.
func TestSharedLocks(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.keep = 10 * 24 * time.Hour
		gets := 0
		f.bucket.fail = func(op, _ string) error {
			if op == "get" {
				gets++
			}
			return nil
		}
		c := f.copier()
		const days = 40
		for day := range days {
			if day < 10 || day > 20 {
				f.record(10, true)
			}
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			f.wantLocked()
		}
		if got := c.Figures(); got.Behind != 0 || got.Faults != 0 || gets != 0 {
			f.Errorf("%+v, %d objects read", got, gets)
		}
		c.Close()
		_, r := f.wantCopy(f.log.Size())
		if most := days * r.Objects / 5; f.bucket.extended == 0 || f.bucket.extended > most || r.Unlocked != 0 {
			f.Errorf("%d locks made longer, more than %d; %+v", f.bucket.extended, most, r)
		}
	})
}

// Locks are made longer when the configuration says so.
func TestLongerKeep(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(30, true)
		f.copier().Close()
		f.keep *= 100
		c := f.copier()
		c.Close()
		f.wantLocked()
	})
}

// In the same life, and although the log is quiet, what a rule of the bucket removed and
// the log still has is put again, and what somebody put in its place is found.
func TestLookedAtDaily(t *testing.T) {
	inBubble(t, func(f *fixture) {
		f.record(30, true)
		c := f.copier()
		defer c.Close()
		var key string
		for k := range f.bucket.objects {
			if !shared(f.fileOf(k)) {
				key = k
			}
		}
		time.Sleep(f.keep + time.Hour)
		f.bucket.mu.Lock()
		size := len(f.bucket.objects[key][0].content)
		delete(f.bucket.objects, key)
		f.bucket.mu.Unlock()
		time.Sleep(lookEvery + time.Minute)
		synctest.Wait()
		f.wantCopy(30)
		f.wantLocked()

		time.Sleep(f.keep + time.Hour)
		f.bucket.mu.Lock()
		delete(f.bucket.objects, key)
		f.bucket.plant(key, bytes.Repeat([]byte{7}, size), time.Time{})
		f.bucket.mu.Unlock()
		time.Sleep(lookEvery + time.Minute)
		synctest.Wait()
		if got := c.Figures(); !strings.Contains(got.Why, ErrOther.Error()) {
			f.Errorf("%+v", got)
		}
	})
}

// Who reads a copy is told of what is not locked though it should be.
func TestUnprotected(t *testing.T) {
	hours := func(n int) func(f *fixture, key string, v *version) {
		return func(_ *fixture, _ string, v *version) { v.until = time.Now().Add(time.Duration(n) * time.Hour) }
	}
	of := func(file string, spoil func(f *fixture, key string, v *version)) func(f *fixture, key string, v *version) {
		return func(f *fixture, key string, v *version) {
			if strings.HasPrefix(f.fileOf(key), file) {
				spoil(f, key, v)
			}
		}
	}
	none := func(_ *fixture, _ string, v *version) { v.until = time.Time{} }
	for what, c := range map[string]struct {
		spoil    func(f *fixture, key string, v *version)
		days     int
		unlocked int
		bare     string
	}{
		"as it was put":                {hours(30), 1, 0, ""},
		"a segment without lock":       {of(segmentsDir, none), 0, 1, segmentsDir},
		"the key without lock":         {of(keyFile, none), 0, 1, keyFile},
		"checkpoints end before":       {of(checkpointsFile, hours(-1)), 0, 1, checkpointsFile},
		"all is over":                  {hours(-1), 0, 0, ""},
		"all is over before its time":  {hours(-1), 30, 1, segmentsDir},
		"a segment's ends in an hour":  {of(segmentsDir, hours(1)), 30, 1, segmentsDir},
		"which nobody says is too low": {of(segmentsDir, hours(1)), 0, 0, ""},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(f *fixture) {
				f.record(30, true)
				f.copier().Close()
				for key, versions := range f.bucket.objects {
					c.spoil(f, key, &versions[0])
				}
				r, err := Restore(f.Context(), f.place, filepath.Join(f.TempDir(), "restored"), c.days, time.Now(), nil)
				if err != nil || r.Unlocked != c.unlocked || !strings.HasPrefix(strings.TrimPrefix(r.Bare, f.place.Prefix), c.bare) || (r.Bare == "") != (c.bare == "") {
					f.Errorf("%+v, %v", r, err)
				}
			})
		})
	}
}

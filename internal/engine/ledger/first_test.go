package ledger

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Who looks at a log that has just begun finds what is signed: the first checkpoint comes
// at once, the next ones at twice the distance, and from then on one a minute. (Control:
// with one a minute alone there is none in the first.)
func TestTheFirstCheckpointComesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.cfg.CheckpointEvery, f.cfg.Now = 0, time.Now
		l := f.open()
		signed := func() int {
			t.Helper()
			synctest.Wait()
			all, err := l.Store().Signed(&l.key, 0)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		f.record(l, 1)
		if time.Sleep(firstCheckpoint); signed() != 1 {
			t.Error("the first event is not signed at once")
		}
		last, gaps := signed(), []int{0} // seconds between checkpoints, an event in each
		for range 240 {
			f.record(l, 1)
			time.Sleep(time.Second)
			gaps[len(gaps)-1]++
			if n := signed(); n > last {
				last, gaps = n, append(gaps, 0)
			}
		}
		if late := gaps[len(gaps)-2]; slices.Max(gaps[:5]) > 4 || late < 60 || late > 61 {
			t.Errorf("seconds between checkpoints: %v", gaps)
		}
		f.close(l)
		l = f.open() // a log that has one waits a minute at once
		last = signed()
		f.record(l, 1)
		if time.Sleep(30 * time.Second); signed() != last {
			t.Error("an old log signs sooner than in a minute")
		}
		f.close(l)
	})
}

package service

import (
	"github.com/nyxnet/nyx/internal/machine"
)

// Limits of a store.
const (
	// indexesMax bounds the indexes kept: at 4 descriptors of 7 KiB, 110 MiB.
	indexesMax = 4096
	// versionsMax bounds the descriptors under one index. Who knows an address
	// can lay false ones beside the true one, but the true one stays: readers
	// tell them apart, and each writer replaces its own.
	versionsMax = 4
	// life is how long a descriptor is kept: a period and the next.
	life = machine.Time(2 * PeriodSeconds * 1e9)
)

// Store keeps sealed descriptors. It belongs to one goroutine; the zero Store
// is empty.
type Store struct {
	byIndex map[Index]*shelf
	expiry  machine.Timers[Index]
}

type shelf struct {
	sealed []entry
	expire machine.Timer[Index]
}

// entry is a descriptor under the secret of who laid it there.
type entry struct {
	writer [16]byte
	sealed []byte
}

// Put keeps a descriptor, in place of the same writer's older one. It reports
// false when there is no room. sealed is copied.
func (s *Store) Put(now machine.Time, ix Index, writer [16]byte, sealed []byte) bool {
	s.Expire(now)
	if len(sealed) < sealedMin || len(sealed) > SealedMax {
		return false
	}
	sh := s.byIndex[ix]
	if sh == nil {
		if len(s.byIndex) >= indexesMax {
			return false
		}
		if s.byIndex == nil {
			s.byIndex = map[Index]*shelf{}
		}
		sh = &shelf{}
		sh.expire.Value = ix
		s.byIndex[ix] = sh
		s.expiry.Set(&sh.expire, now+life)
	}
	sealed = append([]byte(nil), sealed...)
	for i := range sh.sealed {
		if sh.sealed[i].writer == writer {
			sh.sealed[i].sealed = sealed
			return true
		}
	}
	if len(sh.sealed) >= versionsMax {
		return false
	}
	sh.sealed = append(sh.sealed, entry{writer, sealed})
	return true
}

// Get returns the descriptors under an index, which must not be changed.
func (s *Store) Get(now machine.Time, ix Index) [][]byte {
	s.Expire(now)
	sh := s.byIndex[ix]
	if sh == nil {
		return nil
	}
	out := make([][]byte, len(sh.sealed))
	for i, e := range sh.sealed {
		out[i] = e.sealed
	}
	return out
}

// Expire forgets what is past its life.
func (s *Store) Expire(now machine.Time) {
	for {
		t, due := s.expiry.Pop(now)
		if !due {
			return
		}
		delete(s.byIndex, t.Value)
	}
}

// Len is the number of indexes kept.
func (s *Store) Len() int { return len(s.byIndex) }

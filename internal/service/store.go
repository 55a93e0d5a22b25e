package service

import (
	"cmp"

	"github.com/nyxnet/nyx/internal/machine"
)

// Limits of a store.
const (
	// placesMax bounds the places kept by default, at 7 KiB each: 115 MiB.
	placesMax = 16384
	// life is how long a place is kept: a period and the next.
	life = machine.Time(2 * PeriodSeconds * 1e9)

	// WorkLeast and WorkMost are the work in bits for a new place: 20 ms of a
	// processor while the store is less than half full, then more with every
	// place, up to 2 s for the last ones. What is kept stays: nobody buys
	// another's place, and who would fill the store pays most for the end.
	WorkLeast = 16
	WorkMost  = 24
	// WorkFull is the price of a full store, which nobody can pay.
	WorkFull = 255
)

// Store keeps sealed descriptors, one in a place. It belongs to one goroutine;
// the zero Store is empty.
type Store struct {
	PlacesMax int // 0: 16,384

	places map[Index]*place
	expiry machine.Timers[Index]
}

type place struct {
	sealed []byte
	expire machine.Timer[Index]
}

// Price is the work that a publication under an index must show now. To replace
// what lies in a place costs its owner none.
func (s *Store) Price(now machine.Time, ix Index) int {
	s.Expire(now)
	n, most := len(s.places), s.placesMax()
	switch {
	case s.places[ix] != nil:
		return 0
	case n >= most:
		return WorkFull
	}
	return WorkLeast + (WorkMost-WorkLeast)*2*max(n-most/2, 0)/most
}

func (s *Store) placesMax() int { return cmp.Or(s.PlacesMax, placesMax) }

// Put keeps a descriptor, in place of the older one. That the place belongs to
// who laid it there, and its price, were checked by the caller. It reports
// false for what cannot be a descriptor and when there is no room. sealed is
// copied. A place ends a fixed time after its first descriptor: to keep it
// longer, it is paid for again.
func (s *Store) Put(now machine.Time, ix Index, sealed []byte) bool {
	s.Expire(now)
	if len(sealed) < sealedMin || len(sealed) > SealedMax {
		return false
	}
	p := s.places[ix]
	if p == nil {
		if len(s.places) >= s.placesMax() {
			return false
		}
		if s.places == nil {
			s.places = map[Index]*place{}
		}
		p = &place{}
		p.expire.Value = ix
		s.places[ix] = p
		s.expiry.Set(&p.expire, now+life)
	}
	p.sealed = append([]byte(nil), sealed...)
	return true
}

// Get returns the descriptor under an index, which must not be changed, or nil.
func (s *Store) Get(now machine.Time, ix Index) []byte {
	s.Expire(now)
	if p := s.places[ix]; p != nil {
		return p.sealed
	}
	return nil
}

// Expire forgets what is past its life.
func (s *Store) Expire(now machine.Time) {
	for {
		t, due := s.expiry.Pop(now)
		if !due {
			return
		}
		delete(s.places, t.Value)
	}
}

// Len is the number of places kept.
func (s *Store) Len() int { return len(s.places) }

package control

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Figures of proofs of work. A bit more doubles the hashes that one takes.
const (
	// WorkMost is the greatest difficulty: some seconds of one core.
	WorkMost = 24
	// workFirst is the difficulty with which asking begins: 1 ms of one core.
	workFirst = 12
	// workEpoch is how long a challenge is the present one; it is good in the next
	// one too.
	workEpoch = 30 * time.Second
	// workStep is how often the difficulty may move by one.
	workStep = time.Second
)

// workHash is what a proof is found by.
func workHash(seed, client, nonce [16]byte, answer uint64) [seal.HashSize]byte {
	var a [8]byte
	binary.BigEndian.PutUint64(a[:], answer)
	return seal.Hash("admission work", seed[:], client[:], nonce[:], a[:])
}

// worth is the difficulty that a hash shows.
func worth(h [seal.HashSize]byte) uint8 {
	return uint8(bits.LeadingZeros64(binary.BigEndian.Uint64(h[:8])))
}

// Prove searches the proof of work for a challenge. It takes 2^bits hashes on the
// average, and gives up after 16 times as many.
func Prove(c *wire.Challenge, client, nonce [16]byte) (answer uint64, found bool) {
	for limit := uint64(16) << c.Bits; answer < limit; answer++ {
		if worth(workHash(c.Seed, client, nonce, answer)) >= c.Bits {
			return answer, true
		}
	}
	return 0, false
}

// work asks clients for proofs of work while the queue before admission is under
// pressure. It keeps nothing of those whom it asked: a challenge follows from a key
// and the time, a proof is bound to a client's SESSION_INIT and takes one hash to
// check.
type work struct {
	key  seal.Key
	most uint8 // 0: never asked for
	bits uint8 // the present difficulty
	next machine.Time
}

// seed is the challenge of an epoch.
func (w *work) seed(epoch machine.Time) (s [16]byte) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(epoch))
	return seal.MAC(&w.key, b[:])
}

// challenge is what a client must answer that has to show so many bits.
func (w *work) challenge(now machine.Time, difficulty uint8) wire.Challenge {
	return wire.Challenge{Bits: difficulty, Seed: w.seed(now / machine.Time(workEpoch))}
}

// shown reports whether a SESSION_INIT has a proof of so many bits, or of one fewer:
// the difficulty may have grown since it was asked for.
func (w *work) shown(now machine.Time, m *wire.SessionInit, need uint8) bool {
	if need == 0 {
		return true
	}
	if !m.Worked {
		return false
	}
	epoch := now / machine.Time(workEpoch)
	for _, e := range [...]machine.Time{epoch, epoch - 1} {
		if worth(workHash(w.seed(e), m.ClientID, m.Nonce, m.Work)) >= need-1 {
			return true
		}
	}
	return false
}

// adapt moves the difficulty by one at most a step: up while the queue is more than
// half full, down while it is less than an eighth.
func (w *work) adapt(now machine.Time, waiting, most int) {
	if w.most == 0 || now < w.next {
		return
	}
	w.next = now.Add(workStep)
	switch {
	case 2*waiting > most:
		w.bits = min(max(w.bits+1, workFirst), w.most)
	case 8*waiting < most && w.bits > 0:
		if w.bits--; w.bits < workFirst {
			w.bits = 0
		}
	}
}

package bench

import (
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"fmt"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

// Set-ups of one round, and rounds: 0.2 s in all, so that the medians pass over
// what else the machine does meanwhile.
const (
	setupBatch  = 24
	setupRounds = 45
)

// runSetup times a relay's work on route set-ups against the two key
// operations that each needs.
func runSetup(context.Context, Options) ([]Figure, error) {
	r, err := newRig()
	if err != nil {
		return nil, err
	}
	if _, err := r.established(0); err != nil {
		return nil, err
	}
	key, err := kemFloor()
	if err != nil {
		return nil, err
	}
	var took, floor []time.Duration
	for round := range setupRounds {
		var datagrams [][]byte
		for i := range setupBatch {
			_, train, err := r.route(1 + round*setupBatch + i)
			if err != nil {
				return nil, err
			}
			datagrams = append(datagrams, r.capture(wire.TrainFrames, train.Frame)...)
		}
		begun := cpuTime()
		sent := r.feed(datagrams)
		took = append(took, (cpuTime()-begun)/setupBatch)
		if sent < setupBatch*wire.TrainFrames {
			return nil, fmt.Errorf("the relay passed on %d of %d set-up datagrams", sent, setupBatch*wire.TrainFrames)
		}
		begun = cpuTime()
		for range setupBatch {
			if err := key(); err != nil {
				return nil, err
			}
		}
		floor = append(floor, (cpuTime()-begun)/setupBatch)
		r.now += 1e9 // the limit on set-ups is by the second
	}
	f := Figure{Name: "route set-up, one hop", Value: micros(median(took)), Unit: "µs", Bound: 1.5,
		Note: "floor: X25519 and ML-KEM-768 decapsulation; budget is of the ratio"}
	return []Figure{f.against(micros(median(floor)))}, nil
}

// kemFloor returns the bare operations of the standard library. This package
// measures; it protects nothing with these keys.
func kemFloor() (func() error, error) {
	x, err := ecdh.X25519().NewPrivateKey(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	peer, err := ecdh.X25519().NewPrivateKey(append(make([]byte, 31), 1))
	if err != nil {
		return nil, err
	}
	m, err := mlkem.NewDecapsulationKey768(make([]byte, 64))
	if err != nil {
		return nil, err
	}
	_, ciphertext := m.EncapsulationKey().Encapsulate()
	return func() error {
		if _, err := x.ECDH(peer.PublicKey()); err != nil {
			return err
		}
		_, err := m.Decapsulate(ciphertext)
		return err
	}, nil
}

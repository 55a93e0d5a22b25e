package service

import (
	"encoding/binary"
	"math/bits"

	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// An address is a point, and the place of a descriptor in a period is that
// point, blinded: whoever knows the address computes the place, only who knows
// the service's scalar can prove that the place is his, and nobody else can
// tell the places of two periods for one service's (docs/protocol.md, section
// 11.2).

// Index is where a descriptor lies in a period: a blinded point.
type Index [seal.PointSize]byte

// Index returns the index of the address in a period. What is no address of a
// service has the zero index, under which nothing lies.
func (a Address) Index(period uint64) (ix Index) {
	b := a.blind(period)
	if p, err := seal.Mult(&b, (*seal.Point)(&a)); err == nil {
		ix = Index(p)
	}
	return ix
}

func (a Address) blind(period uint64) seal.Scalar {
	return seal.Scalar(seal.Hash("service place", a[:], binary.BigEndian.AppendUint64(nil, period)))
}

// Challenge is a keeper's question to who lays a descriptor down, fresh for
// each exchange.
type Challenge struct {
	Point  seal.Point // what is sent
	secret seal.Scalar
}

// NewChallenge returns the challenge of fresh random bytes.
func NewChallenge(secret seal.Scalar) *Challenge {
	return &Challenge{Point: seal.BaseMult(&secret), secret: secret}
}

// Publication is what is laid down at a keeper.
type Publication struct {
	Index  Index
	Nonce  uint64 // of the work
	Proof  Proof
	Sealed []byte
}

// Proof shows that a place belongs to who lays something there.
type Proof [16]byte

func (p *Publication) proof(shared *seal.Point, keeper wire.NodeID) Proof {
	h := seal.Hash("service proof", shared[:], keeper[:], p.Index[:], binary.BigEndian.AppendUint64(nil, p.Nonce), p.Sealed)
	return Proof(h[:16])
}

// Prove completes a publication of a period with the answer to a keeper's
// challenge. It fails if the challenge is no proper point.
func (k *Key) Prove(p *Publication, period uint64, keeper wire.NodeID, challenge seal.Point) error {
	b := k.address.blind(period)
	shared := challenge
	for _, s := range []*seal.Scalar{&b, &k.tweak, &k.scalar} {
		var err error
		if shared, err = seal.Mult(s, &shared); err != nil {
			return err
		}
	}
	p.Proof = p.proof(&shared, keeper)
	return nil
}

// Holds reports whether a publication comes from who owns its place.
func (c *Challenge) Holds(p *Publication, keeper wire.NodeID) bool {
	shared, err := seal.Mult(&c.secret, (*seal.Point)(&p.Index))
	if err != nil {
		return false
	}
	want := p.proof(&shared, keeper)
	return seal.Equal(want[:], p.Proof[:])
}

// Work is how many zero bits the work of a publication begins with. It is done
// for one challenge, so none of it can be done ahead.
func Work(challenge seal.Point, ix Index, nonce uint64) int {
	h := seal.Hash("service work", challenge[:], ix[:], binary.BigEndian.AppendUint64(nil, nonce))
	return bits.LeadingZeros64(binary.BigEndian.Uint64(h[:]))
}

// FindWork looks for a nonce from a first one on. It gives up after tries.
func FindWork(challenge seal.Point, ix Index, want int, from uint64, tries int) (nonce uint64, ok bool) {
	for nonce = from; nonce < from+uint64(tries); nonce++ {
		if Work(challenge, ix, nonce) >= want {
			return nonce, true
		}
	}
	return nonce, false
}

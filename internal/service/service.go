// Package service holds what a service inside the network is: its keys, its
// address, its descriptor and where that lies.
//
// An address is a point that commits to the service's public keys. The
// descriptor, which names meeting points, is signed by the service and sealed
// under a key that follows from the address, and lies under an index that
// follows from address and period: who keeps it can neither read it, nor tell
// whose it is, nor link two periods, and nobody but the service can lay
// anything there (docs/protocol.md, section 11).
package service

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// Domain is the ending of service addresses.
const Domain = ".nyx"

// Errors of descriptors and addresses.
var (
	ErrAddress    = errors.New("service: not an address of a service")
	ErrDescriptor = errors.New("service: descriptor malformed or not of this service")
	ErrExpired    = errors.New("service: descriptor has expired")
)

// Key is a service's key pair.
type Key struct {
	Signer *seal.Signer
	KEM    *seal.KEMPrivate

	scalar  seal.Scalar // whose places are this service's
	base    seal.Point
	tweak   seal.Scalar
	address Address
}

// NewKey derives a service's keys from a source that is its secret.
func NewKey(secret prng.Source) (*Key, error) {
	var s [seal.SignSeedSize]byte
	var k [seal.KEMSeedSize]byte
	secret.Stream("service signer").Read(s[:])
	secret.Stream("service kem").Read(k[:])
	defer clear(s[:])
	defer clear(k[:])
	signer, err := seal.NewSigner(&s)
	if err != nil {
		return nil, err
	}
	kem, err := seal.NewKEMPrivate(&k)
	if err != nil {
		return nil, err
	}
	out := &Key{Signer: signer, KEM: kem}
	secret.Stream("service place").Read(out.scalar[:])
	out.base = seal.BaseMult(&out.scalar)
	out.tweak = tweakOf(out.base, signer.Public(), kem.Public().Bytes())
	out.address, err = addressOf(out.base, signer.Public(), kem.Public().Bytes())
	return out, err
}

// Address is a service's base point multiplied by a hash of itself and of the
// service's public keys. So it commits to the keys as a hash does, also against
// who can take logarithms: other keys for one address need a hash that meets
// its own input. And it is a public key, whose scalar the service alone knows.
type Address seal.Point

func tweakOf(base seal.Point, signer, kem []byte) seal.Scalar {
	return seal.Scalar(seal.Hash("service address", base[:], signer, kem))
}

func addressOf(base seal.Point, signer, kem []byte) (Address, error) {
	t := tweakOf(base, signer, kem)
	a, err := seal.Mult(&t, &base)
	return Address(a), err
}

// Address returns the key's address.
func (k *Key) Address() Address { return k.address }

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the address as a host name.
func (a Address) String() string { return strings.ToLower(encoding.EncodeToString(a[:])) + Domain }

// ParseAddress parses a host name.
func ParseAddress(host string) (a Address, err error) {
	name, ok := strings.CutSuffix(strings.ToLower(host), Domain)
	if !ok {
		return a, ErrAddress
	}
	b, err := encoding.DecodeString(strings.ToUpper(name))
	if err != nil || len(b) != len(a) || strings.ToLower(encoding.EncodeToString(b)) != name {
		return a, ErrAddress
	}
	copy(a[:], b)
	return a, nil
}

// Inside reports whether a host name belongs to services inside the network,
// whether or not it is the address of one: it must never be asked for outside.
func Inside(host string) bool {
	return strings.HasSuffix(strings.TrimRight(strings.ToLower(host), "."), Domain)
}

// PeriodSeconds is how long an index is used. After it, an index and the next
// have nothing in common for who does not know the address.
const PeriodSeconds = 6 * 3600

// Period is the period of a second since 1970.
func Period(unix int64) uint64 { return uint64(max(unix, 0)) / PeriodSeconds }

func (a Address) descriptorKey(period uint64) seal.Key {
	return seal.Hash("service descriptor key", a[:], binary.BigEndian.AppendUint64(nil, period))
}

// Meeting is a place where a service waits.
type Meeting struct {
	Node wire.NodeID
	ID   wire.MeetingID
}

// MeetingOf is the id under which the holder of a meeting's secret waits. The
// descriptor names the id; the secret is known to the service and to the Stream
// node of the meeting, so that nobody else takes the meeting over.
func MeetingOf(s wire.MeetingSecret) wire.MeetingID {
	return wire.MeetingID(seal.Hash("service meeting", s[:]))
}

// MeetingsMax bounds the meetings of one descriptor.
const MeetingsMax = 8

// Descriptor says how to reach a service.
type Descriptor struct {
	Address  Address
	KEM      *seal.KEMPublic
	Sequence uint64 // a later descriptor has a greater one
	Expires  int64  // second since 1970
	Meetings []Meeting
}

// A sealed descriptor:
//
//	[counter 8][sealed: body, signature 3373][tag 16]
//	body: [base point 32][signer key 1984][kem key 1216][sequence 8][expires 8][n 1] n × [node 32][meeting 32]
const (
	bodyFixed  = seal.PointSize + seal.SignPublicSize + seal.KEMPublicSize + 8 + 8 + 1
	meetingLen = 32 + 32
	sealedMin  = 8 + bodyFixed + seal.SignatureSize + seal.Overhead
	// SealedMax is the size of the largest sealed descriptor.
	SealedMax = sealedMin + MeetingsMax*meetingLen
)

const signContext = "nyx service 1"

// Seal signs and seals a descriptor for a period. counter is fresh randomness.
func Seal(k *Key, d *Descriptor, period, counter uint64) ([]byte, error) {
	if len(d.Meetings) > MeetingsMax {
		return nil, fmt.Errorf("%w: %d meetings, at most %d", ErrDescriptor, len(d.Meetings), MeetingsMax)
	}
	body := append(make([]byte, 0, SealedMax), k.base[:]...)
	body = append(body, k.Signer.Public()...)
	body = append(body, k.KEM.Public().Bytes()...)
	body = binary.BigEndian.AppendUint64(body, d.Sequence)
	body = binary.BigEndian.AppendUint64(body, uint64(d.Expires))
	body = append(body, byte(len(d.Meetings)))
	for _, m := range d.Meetings {
		body = append(body, m.Node[:]...)
		body = append(body, m.ID[:]...)
	}
	signature, err := k.Signer.Sign(signContext, body)
	if err != nil {
		return nil, err
	}
	key := k.Address().descriptorKey(period)
	out := binary.BigEndian.AppendUint64(make([]byte, 0, SealedMax), counter)
	return seal.NewAEAD(seal.AES256GCM, &key).Seal(out, append(body, signature...), nil, counter), nil
}

// Open opens and verifies what lay under an address's index in a period.
func Open(a Address, sealed []byte, period uint64, unix int64) (*Descriptor, error) {
	if len(sealed) < sealedMin || len(sealed) > SealedMax {
		return nil, ErrDescriptor
	}
	key := a.descriptorKey(period)
	counter := binary.BigEndian.Uint64(sealed)
	plain, ok := seal.NewAEAD(seal.AES256GCM, &key).Open(nil, sealed[8:], nil, counter)
	if !ok {
		return nil, ErrDescriptor
	}
	n := int(plain[bodyFixed-1])
	if n > MeetingsMax || len(plain) != bodyFixed+n*meetingLen+seal.SignatureSize {
		return nil, ErrDescriptor
	}
	body, signature := plain[:len(plain)-seal.SignatureSize], plain[len(plain)-seal.SignatureSize:]
	base, rest := seal.Point(body[:seal.PointSize]), body[seal.PointSize:]
	signer, rest := rest[:seal.SignPublicSize], rest[seal.SignPublicSize:]
	committed, err := addressOf(base, signer, rest[:seal.KEMPublicSize])
	if err != nil || committed != a || seal.Verify(signer, signContext, body, signature) != nil {
		return nil, ErrDescriptor
	}
	d := &Descriptor{Address: a}
	if d.KEM, err = seal.ParseKEMPublic(rest[:seal.KEMPublicSize]); err != nil {
		return nil, ErrDescriptor
	}
	rest = rest[seal.KEMPublicSize:]
	d.Sequence, d.Expires = binary.BigEndian.Uint64(rest), int64(binary.BigEndian.Uint64(rest[8:]))
	if d.Expires < unix {
		return nil, ErrExpired
	}
	for rest = rest[17:]; len(rest) > 0; rest = rest[meetingLen:] {
		var m Meeting
		copy(m.Node[:], rest)
		copy(m.ID[:], rest[32:])
		d.Meetings = append(d.Meetings, m)
	}
	return d, nil
}

// Keepers returns which of the candidate nodes keep the descriptor of an
// index: the first n by a hash of both, so that everybody finds the same ones
// and a change of the directory moves few.
func Keepers(ix Index, candidates []wire.NodeID, n int) []wire.NodeID {
	type ranked struct {
		id   wire.NodeID
		rank [seal.HashSize]byte
	}
	all := make([]ranked, len(candidates))
	for i, id := range candidates {
		all[i] = ranked{id, seal.Hash("service keeper", ix[:], id[:])}
	}
	slices.SortFunc(all, func(a, b ranked) int { return slices.Compare(a.rank[:], b.rank[:]) })
	out := make([]wire.NodeID, 0, n)
	for _, r := range all[:min(n, len(all))] {
		out = append(out, r.id)
	}
	return out
}

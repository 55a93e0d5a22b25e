package directory

import (
	"fmt"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// Trust is whom a client believes: it comes with the network file, not from
// the network.
type Trust struct {
	// Network is the name that the document must carry.
	Network string
	// Authorities are the public signing keys (seal.SignPublicSize bytes
	// each). Their order means nothing to who verifies.
	Authorities [][]byte
	// Threshold is how many of them must have signed; at least 1.
	Threshold int
	// Witnesses are the public keys of those who watch the authorities' logs, and
	// WitnessThreshold how many of them must have seen a document (package
	// translog). Verify knows nothing of them.
	Witnesses        [][]byte
	WitnessThreshold int
}

func (t *Trust) validate() error {
	if !validName(t.Network) {
		return fmt.Errorf("%w: network %q: %s", ErrTrust, t.Network, nameRule)
	}
	if n := len(t.Authorities); n == 0 || n > MaxAuthorities || t.Threshold < 1 || t.Threshold > n {
		return fmt.Errorf("%w: threshold %d of %d authorities, at most %d", ErrTrust, t.Threshold, n, MaxAuthorities)
	}
	seen := make([]digest, 0, len(t.Authorities))
	for i, key := range t.Authorities {
		if len(key) != seal.SignPublicSize {
			return fmt.Errorf("%w: key %d has %d bytes, not %d", ErrTrust, i, len(key), seal.SignPublicSize)
		}
		id := AuthorityID(key)
		if slices.Contains(seen, id) {
			return fmt.Errorf("%w: key %d twice", ErrTrust, i)
		}
		seen = append(seen, id)
	}
	return nil
}

// Verify parses a document and checks it against trust and time. wall is this
// machine's clock, in seconds since 1970, which may be an hour off either way.
//
// A clock that is late is helped: the time at which the k-th latest signature
// was made has passed, whatever the clock says, even if all authorities but
// the honest ones of a threshold lie.
func Verify(b []byte, trust *Trust, wall int64) (*Document, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	d, err := parseEnvelope(b)
	if err != nil {
		return nil, err
	}
	if err := d.verify(trust, wall); err != nil {
		return nil, err
	}
	if err := d.parseNodes(); err != nil {
		return nil, err
	}
	return d, nil
}

// verify checks the envelope: name, signatures, time.
func (d *Document) verify(trust *Trust, wall int64) error {
	if err := d.verifyOrigin(trust); err != nil {
		return err
	}
	return d.verifyTime(d.Now(wall))
}

// verifyOrigin checks whose document it is, and notes how late it must be.
func (d *Document) verifyOrigin(trust *Trust) (err error) {
	if d.Network != trust.Network {
		return fmt.Errorf("%w: the document is of %q, this network is %q", ErrNetwork, d.Network, trust.Network)
	}
	d.floor, err = d.verifySignatures(trust)
	return err
}

// verifySignatures counts the valid signatures of trusted authorities. A
// document is held to its own threshold too, if that is higher. It returns
// the k-th latest time of signing.
func (d *Document) verifySignatures(trust *Trust) (floor int64, err error) {
	need := max(trust.Threshold, d.Threshold)
	var times []int64
	bad, foreign := 0, 0
	for i := range d.signatures {
		s := &d.signatures[i]
		key := trust.key(s.Authority)
		if key == nil {
			foreign++
			continue
		}
		if seal.Verify(key, documentContext, signed(s.Time, d.header), s.Bytes) != nil {
			bad++
			continue
		}
		times = append(times, s.Time)
	}
	if len(times) < need {
		return 0, fmt.Errorf("%w: the document of epoch %d has %d valid of %d needed (%d invalid, %d of unknown authorities)",
			ErrThreshold, d.Epoch, len(times), need, bad, foreign)
	}
	slices.Sort(times)
	return times[len(times)-need], nil
}

// KeepValid removes the signatures that are not valid ones of trusted
// authorities, and returns how many are left. A document short of its threshold
// is not to be believed; what is left says who has looked at it.
func (d *Document) KeepValid(trust *Trust) int {
	d.signatures = slices.DeleteFunc(d.signatures, func(s Signature) bool {
		key := trust.key(s.Authority)
		return key == nil || seal.Verify(key, documentContext, signed(s.Time, d.header), s.Bytes) != nil
	})
	return len(d.signatures)
}

// SignedBy reports whether d carries the valid signature of an authority.
func (d *Document) SignedBy(key []byte) bool {
	id := AuthorityID(key)
	return slices.ContainsFunc(d.signatures, func(s Signature) bool {
		return s.Authority == id && seal.Verify(key, documentContext, signed(s.Time, d.header), s.Bytes) == nil
	})
}

// key returns the trusted key of an id. Each signature of a document has
// another authority (parseEnvelope refuses doubles), so none counts twice.
func (t *Trust) key(id digest) []byte {
	for _, key := range t.Authorities {
		if AuthorityID(key) == id {
			return key
		}
	}
	return nil
}

func (h *Header) verifyTime(now int64) error {
	const grace = int64(ClockGrace / time.Second)
	if now < h.ValidFrom-grace {
		return fmt.Errorf("%w: epoch %d begins in %v (at %s); is this computer's clock late? It says %s",
			ErrNotYetValid, h.Epoch, seconds(h.ValidFrom-now), utc(h.ValidFrom), utc(now))
	}
	if now >= h.ValidUntil+grace {
		return fmt.Errorf("%w: epoch %d ended %v ago (at %s); fetch a newer document, or set this computer's clock if %s is wrong",
			ErrExpired, h.Epoch, seconds(now-h.ValidUntil), utc(h.ValidUntil), utc(now))
	}
	return nil
}

// seconds saturates: a wild clock must not overflow the message.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, int64(1<<62)/int64(time.Second))) * time.Second
}

func utc(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC") }

// Keeper verifies documents one after the other and refuses to go back. It
// belongs to one goroutine. Persist Newest with the client's state, so that
// a restart does not forget it.
type Keeper struct {
	trust   Trust
	newest  Mark
	current *Document
	check   func(*Document) error // nil: none

	conflict func(held, other *Document) // nil: none
}

// Mark is the number and the name of a document: how far a Keeper has come, or
// an authority with signing.
type Mark struct {
	Epoch    uint64
	Revision uint32
	Hash     [seal.HashSize]byte
}

// Mark returns the document's mark.
func (d *Document) Mark() Mark { return Mark{Epoch: d.Epoch, Revision: d.Revision, Hash: d.Hash()} }

// Before reports whether m has a lower number than o.
func (m Mark) Before(o Mark) bool {
	return m.Epoch < o.Epoch || m.Epoch == o.Epoch && m.Revision < o.Revision
}

// Conflicts reports whether m and o are two documents with one number.
func (m Mark) Conflicts(o Mark) bool {
	return m.Epoch == o.Epoch && m.Revision == o.Revision && m.Hash != o.Hash
}

// NewKeeper returns a keeper that goes on from a mark; the zero Mark is the
// beginning.
func NewKeeper(trust Trust, newest Mark) (*Keeper, error) {
	if err := trust.validate(); err != nil {
		return nil, err
	}
	trust.Authorities = slices.Clone(trust.Authorities)
	return &Keeper{trust: trust, newest: newest}, nil
}

// Demand has each document pass a further check, which is made last, before it is
// kept.
func (k *Keeper) Demand(check func(*Document) error) { k.check = check }

// OnConflict has two documents of one number told, the one that is held first.
func (k *Keeper) OnConflict(tell func(held, other *Document)) { k.conflict = tell }

// Accept verifies a document and keeps it, if it is not older than the newest
// seen. The same document again is no error. After an error the keeper is as
// before.
func (k *Keeper) Accept(b []byte, wall int64) (*Document, error) {
	d, err := Verify(b, &k.trust, wall)
	if err != nil {
		return nil, err
	}
	return d, k.keep(d)
}

// AcceptTable is Accept for a table: the document has no nodes, and Current
// returns it as it is.
func (k *Keeper) AcceptTable(b []byte, wall int64) (*Document, error) {
	d, err := VerifyTable(b, &k.trust, wall)
	if err != nil {
		return nil, err
	}
	return d, k.keep(d)
}

func (k *Keeper) keep(d *Document) error {
	m := d.Mark()
	if k.newest != (Mark{}) {
		if m.Before(k.newest) {
			return fmt.Errorf("%w: got epoch %d revision %d after epoch %d revision %d",
				ErrRollback, m.Epoch, m.Revision, k.newest.Epoch, k.newest.Revision)
		}
		if m.Conflicts(k.newest) {
			if k.conflict != nil && k.current != nil {
				k.conflict(k.current, d)
			}
			return fmt.Errorf("%w: epoch %d revision %d; keep both and tell the operators", ErrConflict, m.Epoch, m.Revision)
		}
	}
	if k.check != nil {
		if err := k.check(d); err != nil {
			return err
		}
	}
	k.newest, k.current = m, d
	return nil
}

// Newest returns the mark of the newest document seen.
func (k *Keeper) Newest() Mark { return k.newest }

// Current returns the newest document, or nil if there is none or if its
// validity has ended at wall, grace included.
func (k *Keeper) Current(wall int64) *Document {
	if k.current == nil || k.current.verifyTime(k.current.Now(wall)) != nil {
		return nil
	}
	return k.current
}

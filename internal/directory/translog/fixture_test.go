package translog

import (
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

const testNetwork = "testnet"

// testEpoch is the first epoch of a test; an epoch is an hour.
const testEpoch = 500_000

func testSigner(t testing.TB, label string) *seal.Signer {
	t.Helper()
	var b [seal.SignSeedSize]byte
	prng.FromUint64(1).Stream(label).Read(b[:])
	s, err := seal.NewSigner(&b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// world is two authorities with logs and three witnesses, of which two must have
// cosigned.
type world struct {
	testing.TB
	policy    *Policy
	trust     *directory.Trust
	signers   []*seal.Signer
	secrets   []*seal.Signer // of the witnesses
	witnesses []*Witness
	kept      []map[string][]byte // what each witness has on its disk
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, policy: &Policy{Network: testNetwork, Threshold: 2}, trust: &directory.Trust{Network: testNetwork, Threshold: 2}}
	for _, name := range []string{"authority 1", "authority 2"} {
		s := testSigner(t, name)
		w.signers = append(w.signers, s)
		w.policy.Authorities = append(w.policy.Authorities, s.Public())
	}
	w.trust.Authorities = w.policy.Authorities
	for _, name := range []string{"witness 1", "witness 2", "witness 3"} {
		s := testSigner(t, name)
		w.secrets = append(w.secrets, s)
		w.policy.Witnesses = append(w.policy.Witnesses, s.Public())
	}
	if err := w.policy.Check(); err != nil {
		t.Fatal(err)
	}
	for i := range w.secrets {
		w.kept = append(w.kept, map[string][]byte{})
		w.witnesses = append(w.witnesses, nil)
		w.restart(i)
	}
	return w
}

// restart begins a witness anew with what it had kept.
func (w *world) restart(i int) {
	w.Helper()
	var notes [][]byte
	for _, b := range w.kept[i] {
		notes = append(notes, b)
	}
	var err error
	w.witnesses[i], err = NewWitness(w.policy, w.secrets[i], func(c Checkpoint, note []byte) error {
		w.kept[i][c.Origin] = note
		return nil
	}, notes...)
	if err != nil {
		w.Fatal(err)
	}
}

// document is one of a number, signed by both authorities; salt makes another of
// the same number.
func (w *world) document(epoch uint64, revision uint32, salt int64) *directory.Document {
	w.Helper()
	var d *directory.Document
	for _, s := range w.signers {
		a, err := directory.NewAuthority(directory.AuthorityConfig{
			Network: testNetwork, Signer: s, Threshold: 2, Authorities: 2,
			Params: directory.Params{Named: []directory.Param{{Name: "salt", Value: salt}}},
		})
		if err != nil {
			w.Fatal(err)
		}
		if d == nil {
			if d, err = a.Build(epoch, revision); err != nil {
				w.Fatal(err)
			}
		}
		if err := a.Sign(d, int64(epoch)*3600); err != nil {
			w.Fatal(err)
		}
	}
	return d
}

// entry is a header of a document that nobody has signed.
func (w *world) entry(epoch uint64, salt int64) []byte {
	w.Helper()
	a, err := directory.NewAuthority(directory.AuthorityConfig{
		Network: testNetwork, Signer: w.signers[0], Threshold: 2, Authorities: 2,
		Params: directory.Params{Named: []directory.Param{{Name: "salt", Value: salt}}},
	})
	if err != nil {
		w.Fatal(err)
	}
	d, err := a.Build(epoch, 0)
	if err != nil {
		w.Fatal(err)
	}
	return d.SignedHeader()
}

// log is one of n epochs' documents, those from the salted on with another content.
func (w *world) log(n, salted int) *Log {
	w.Helper()
	l := &Log{}
	for i := range n {
		w.add(l, testEpoch+uint64(i), map[bool]int64{true: 1}[i >= salted])
	}
	return l
}

func (w *world) add(l *Log, epoch uint64, salt int64) {
	w.Helper()
	if _, err := l.Append(w.entry(epoch, salt)); err != nil {
		w.Fatal(err)
	}
}

// head is a log's checkpoint, signed by an authority.
func (w *world) head(l *Log, authority int) (Checkpoint, []byte) {
	w.Helper()
	c, err := l.Head(Origin(testNetwork, w.signers[authority].Public()))
	if err != nil {
		w.Fatal(err)
	}
	b, err := c.Sign(testNetwork, w.signers[authority])
	if err != nil {
		w.Fatal(err)
	}
	return c, b
}

// ask has a witness cosign a log's head, from where it stands.
func (w *world) ask(i int, l *Log, note []byte) ([]byte, error) {
	w.Helper()
	c, _, err := w.policy.Open(note)
	if err != nil {
		w.Fatal(err)
	}
	last, _ := w.witnesses[i].Newest(c.Origin)
	r := &Request{Old: last.Size, Note: note}
	if last.Size <= l.Size() {
		if r.Proof, err = l.Consistency(last.Size, l.Size()); err != nil {
			w.Fatal(err)
		}
	}
	r, err = ParseRequest(r.Encode())
	if err != nil {
		w.Fatal(err)
	}
	line, _, err := w.witnesses[i].Cosign(r, 1_700_000_000)
	return line, err
}

// cosigned is a log's head with the cosignatures of some witnesses.
func (w *world) cosigned(l *Log, authority int, by ...int) (Checkpoint, []byte) {
	w.Helper()
	c, note := w.head(l, authority)
	for _, i := range by {
		line, err := w.ask(i, l, note)
		if err != nil {
			w.Fatal(err)
		}
		if note, _, err = w.policy.Cosigned(note, line); err != nil {
			w.Fatal(err)
		}
	}
	return c, note
}

// prove is the proof of the i-th document, as it travels.
func (w *world) prove(l *Log, i int64, c Checkpoint, note []byte) []byte {
	w.Helper()
	_, m, err := directory.ParseHeader(l.Entry(i))
	if err != nil {
		w.Fatal(err)
	}
	p, err := l.Prove(m, c, note)
	if err != nil {
		w.Fatal(err)
	}
	return p.Encode()
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/seal"
)

// Network is one authority and the descriptors of nodes.
type Network struct {
	Trust     directory.Trust
	Authority *directory.Authority
	// Epoch begins at Wall.
	Epoch uint64
	Wall  int64
}

func signer(t testing.TB, seed uint64) *seal.Signer {
	t.Helper()
	var b [seal.SignSeedSize]byte
	prng.FromUint64(seed).Stream("signer").Read(b[:])
	s, err := seal.NewSigner(&b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// NewNetwork returns a network without nodes.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	n := &Network{Trust: directory.Trust{Network: "testnet", Threshold: 1}, Epoch: 500_000}
	s := signer(t, 1)
	n.Trust.Authorities = [][]byte{s.Public()}
	var err error
	n.Authority, err = directory.NewAuthority(directory.AuthorityConfig{Network: n.Trust.Network, Signer: s, Threshold: 1, Authorities: 1})
	if err != nil {
		t.Fatal(err)
	}
	n.Wall = n.Authority.Params().Begin(n.Epoch)
	return n
}

// Descriptor returns that of the i-th node, in version so many.
func (n *Network) Descriptor(t testing.TB, i, version int) []byte {
	t.Helper()
	var seed [seal.KEMSeedSize]byte
	prng.FromUint64(uint64(i)).Stream("kem").Read(seed[:])
	key, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := directory.SignDescriptor(signer(t, 100+uint64(i)), n.Trust.Network, &directory.Node{
		Version: uint64(n.Wall) - 3600 + uint64(version), Roles: directory.RoleMix,
		Addrs:    []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 9000)},
		Operator: fmt.Sprintf("operator-%d", i), Region: fmt.Sprintf("region-%d", i%3),
		Link: key.Public().Bytes(), Onion: []directory.OnionKey{{Epoch: directory.Params{}.OnionFrom(n.Epoch), Key: key.Public().Bytes()}},
		Capacity: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Document collects descriptors, and makes and signs the document of a revision.
func (n *Network) Document(t testing.TB, revision uint32, descriptors ...[]byte) *directory.Document {
	t.Helper()
	for _, b := range descriptors {
		if _, err := n.Authority.Collect(b, n.Wall); err != nil {
			t.Fatal(err)
		}
	}
	d, err := n.Authority.Build(n.Epoch, revision)
	if err == nil {
		err = n.Authority.Sign(d, n.Wall)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// RunRegistry tests what a registry keeps in a store that is empty: what one has
// kept, another that is opened on the same store has, too.
func RunRegistry(t *testing.T, s registry.Store) {
	n := NewNetwork(t)
	t.Run("Descriptors", func(t *testing.T) { descriptors(t, s, n) })
	t.Run("Follow", func(t *testing.T) { follow(t, s, n) })
	t.Run("Sign", func(t *testing.T) { sign(t, s) })
	t.Run("Documents", func(t *testing.T) { documents(t, s, n) })
}

// loaded is what a fresh registry finds.
func loaded(t testing.TB, s registry.Store) (found map[string]bool, revision int64) {
	t.Helper()
	found = map[string]bool{}
	revision, err := registry.New(s).Load(t.Context(), func(b []byte) { found[string(b)] = true })
	if err != nil {
		t.Fatal(err)
	}
	return found, revision
}

func descriptors(t *testing.T, s registry.Store, n *Network) {
	ctx := t.Context()
	one, other := registry.New(s), registry.New(s)
	keep := func(r *registry.Registry, b []byte) {
		t.Helper()
		if err := r.Keep(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	want := func(descriptors ...[]byte) {
		t.Helper()
		found, _ := loaded(t, s)
		if len(found) != len(descriptors) {
			t.Fatalf("%d descriptors are kept, want %d", len(found), len(descriptors))
		}
		for i, b := range descriptors {
			if !found[string(b)] {
				t.Fatalf("descriptor %d is not kept", i)
			}
		}
	}
	a1, a2, a3, b1 := n.Descriptor(t, 0, 1), n.Descriptor(t, 0, 2), n.Descriptor(t, 0, 3), n.Descriptor(t, 1, 1)
	keep(one, a1)
	keep(one, b1)
	want(a1, b1)
	// The other process knows nothing of these, and does not bring back what is old.
	keep(other, a2)
	want(a2, b1)
	keep(one, a1)
	want(a2, b1)
	keep(one, a3)
	keep(other, a2)
	keep(other, a3)
	want(a3, b1)
	if err := one.Keep(ctx, []byte("nothing")); err == nil {
		t.Error("what is no descriptor is kept")
	}
	c, err := directory.ParseClaim(a3)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Forget(ctx, c.Version); err != nil {
		t.Fatal(err)
	}
	want(a3)
	if one.Len() != 1 {
		t.Errorf("%d descriptors are known", one.Len())
	}
	keep(one, b1)
	want(a3, b1)
}

func follow(t *testing.T, s registry.Store, n *Network) {
	one, other := registry.New(s), registry.New(s)
	revision, err := other.Load(t.Context(), func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	before := n.Descriptor(t, 10, 1)
	if err := one.Keep(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	own, err := directory.ParseClaim(n.Descriptor(t, 11, 1))
	if err != nil {
		t.Fatal(err)
	}
	its := own.ID // which the process keeps itself, and may see again
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	seen, ended := make(chan []byte, 4), make(chan struct{})
	go func() {
		defer close(ended)
		other.Follow(ctx, revision, func(b []byte) {
			if c, err := directory.ParseClaim(b); err != nil || c.ID != its {
				seen <- b
			}
		}, func(err error) { t.Error(err) })
	}()
	for version := 2; version < 4; version++ {
		if b := <-seen; string(b) != string(before) {
			t.Fatal("another descriptor than what was kept")
		}
		own := n.Descriptor(t, 11, version)
		before = n.Descriptor(t, 10, version)
		if err := errors.Join(other.Keep(t.Context(), own), one.Keep(t.Context(), before)); err != nil {
			t.Fatal(err)
		}
	}
	if b := <-seen; string(b) != string(before) {
		t.Fatal("another descriptor than what was kept")
	}
	cancel()
	<-ended
}

func sign(t *testing.T, s registry.Store) {
	ctx := t.Context()
	one, other := registry.New(s), registry.New(s)
	mark := func(epoch uint64, revision uint32, hash byte) directory.Mark {
		m := directory.Mark{Epoch: epoch, Revision: revision}
		m.Hash[0] = hash
		return m
	}
	want := func(r *registry.Registry, m, newest directory.Mark, fails bool) {
		t.Helper()
		got, err := r.Sign(ctx, m)
		if got != newest || errors.Is(err, directory.ErrConflict) != fails || (err == nil) == fails {
			t.Fatalf("%+v, %v", got, err)
		}
		if kept, err := registry.New(s).Signed(ctx); err != nil || kept != newest {
			t.Fatalf("%+v is kept, %v", kept, err)
		}
	}
	a, b, c := mark(7, 1, 1), mark(7, 1, 2), mark(7, 2, 3)
	if m, err := one.Signed(ctx); err != nil || m != (directory.Mark{}) {
		t.Fatalf("%+v, %v", m, err)
	}
	want(one, a, a, false)
	want(other, b, a, true) // one number, two documents
	want(other, a, a, false)
	want(other, c, c, false)
	want(one, a, c, true) // a lower number
	want(one, mark(6, 9, 1), c, true)
	e, err := s.Get(ctx, "signed")
	if err != nil {
		t.Fatal(err)
	}
	Put(t, s, "signed", "damaged", e.Revision)
	if _, err := one.Sign(ctx, mark(8, 0, 1)); err == nil {
		t.Error("it is signed though it is not known what was")
	}
}

func documents(t *testing.T, s registry.Store, n *Network) {
	ctx := t.Context()
	one := registry.New(s)
	count := func(prefix string) (entries int) {
		t.Helper()
		if _, err := s.List(ctx, prefix, func(registry.Entry) error { entries++; return nil }); err != nil {
			t.Fatal(err)
		}
		return entries
	}
	want := func(d *directory.Document) {
		t.Helper()
		got, why, err := registry.New(s).Published(ctx, &n.Trust, n.Wall)
		switch {
		case err != nil:
			t.Fatal(err)
		case d == nil && got != nil:
			t.Fatalf("epoch %d revision %d is there", got.Epoch, got.Revision)
		case d != nil && (got == nil || string(got.Encode()) != string(d.Encode())):
			t.Fatalf("revision %d is not what is there: %v", d.Revision, why)
		}
	}
	want(nil)
	var all [][]byte
	for i := range 8 {
		all = append(all, n.Descriptor(t, 20+i, 1))
	}
	first := n.Document(t, 1, all...)
	if err := one.Publish(ctx, first); err != nil {
		t.Fatal(err)
	}
	want(first)
	before := count("part/")
	second := n.Document(t, 2, n.Descriptor(t, 20, 2))
	if err := registry.New(s).Publish(ctx, second); err != nil { // another process
		t.Fatal(err)
	}
	want(second)
	if parts := count("part/"); before != len(first.Rows()) || parts != before+1 {
		t.Errorf("%d parts of %d rows, and %d after the change of one node", before, len(first.Rows()), parts)
	}
	for revision := uint32(3); revision < 8; revision++ {
		second = n.Document(t, revision, n.Descriptor(t, 20, int(revision)))
		if err := one.Publish(ctx, second); err != nil {
			t.Fatal(err)
		}
	}
	want(second)
	if tables, parts := count("document/"), count("part/"); tables != 3 || parts != before+2 {
		t.Errorf("%d documents and %d parts are kept", tables, parts)
	}
	// A part that is lost costs the documents that have it, and is said.
	key := fmt.Sprintf("part/%x", second.Rows()[0].Root)
	lost, err := s.Get(ctx, key)
	if err == nil {
		err = s.Delete(ctx, key, lost.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	found, why, err := registry.New(s).Published(ctx, &n.Trust, n.Wall)
	if err != nil || why == nil || found != nil && found.Revision == second.Revision {
		t.Errorf("with a part lost: %v, %v", why, err)
	}
	late := n.Wall + int64(100*time.Hour/time.Second)
	if old, _, err := registry.New(s).Published(ctx, &n.Trust, late); err != nil || old != nil {
		t.Errorf("a document is served long after its time: %v", err)
	}
}

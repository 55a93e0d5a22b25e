package directory

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

func wantError(t *testing.T, what string, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v, want %v with %q", what, err, want, text)
	}
}

// Each attack on the threshold fails; the control differs by one signature.
func TestThreshold(t *testing.T) {
	a := testAuthorities(t, 2, 3, testDescriptor(t, 1, RoleMix, nil))
	// resigned replaces the signature of authority i by one of bytes.
	with := func(change func(d *Document), by ...int) []byte {
		d := a.document(t, testEpoch, 0, testWall, by...)
		if change != nil {
			change(d)
		}
		return d.Encode()
	}
	garbage := func(d *Document) {
		s := Signature{Authority: AuthorityID(a.trust.Authorities[1]), Time: testWall, Bytes: make([]byte, seal.SignatureSize)}
		prng.FromUint64(1).Stream("garbage").Read(s.Bytes)
		d.addSignature(s)
	}
	breakAt := func(offset int) func(d *Document) {
		return func(d *Document) {
			s := &d.signatures[0]
			s.Bytes = slices.Clone(s.Bytes)
			s.Bytes[offset] ^= 1
		}
	}
	half := func(lo, hi int) func(d *Document) {
		return func(d *Document) { clear(d.signatures[0].Bytes[lo:hi]) }
	}
	otherSigner := testSigner(t, 77)
	signAs := func(signer *seal.Signer, name []byte, context string, header []byte) func(d *Document) {
		return func(d *Document) {
			if header == nil {
				header = signed(testWall, d.header)
			}
			b, err := signer.Sign(context, header)
			if err != nil {
				t.Fatal(err)
			}
			d.addSignature(Signature{Authority: AuthorityID(name), Time: testWall, Bytes: b})
		}
	}
	tests := []struct {
		what string
		b    []byte
		text string // "" means accepted
	}{
		{"control: two of three", with(nil, 0, 1), ""},
		{"control: all three", with(nil, 0, 1, 2), ""},
		{"control: signed here as authority 1", with(signAs(a.all[1].cfg.Signer, a.trust.Authorities[1], documentContext, nil), 0), ""},
		{"none", with(nil), "has 0 valid of 2 needed"},
		{"one", with(nil, 0), "has 1 valid of 2 needed (0 invalid, 0 of unknown authorities)"},
		{"one and garbage", with(garbage, 0), "has 1 valid of 2 needed (1 invalid"},
		{"one twice", with(nil, 0, 0), "has 1 valid of 2 needed"},
		{"Ed25519 half broken", with(breakAt(5), 0, 1), "has 1 valid of 2 needed (1 invalid"},
		{"ML-DSA half broken", with(breakAt(100), 0, 1), "has 1 valid of 2 needed (1 invalid"},
		{"Ed25519 half only", with(half(64, seal.SignatureSize), 0, 1), "has 1 valid of 2 needed (1 invalid"},
		{"ML-DSA half only", with(half(0, 64), 0, 1), "has 1 valid of 2 needed (1 invalid"},
		{"time of signing changed", with(func(d *Document) { d.signatures[0].Time++ }, 0, 1), "has 1 valid of 2 needed (1 invalid"},
		{"wrong context", with(signAs(a.all[1].cfg.Signer, a.trust.Authorities[1], descriptorContext, nil), 0), "(1 invalid"},
		{"other message", with(signAs(a.all[1].cfg.Signer, a.trust.Authorities[1], documentContext, []byte("other")), 0), "(1 invalid"},
		{"stranger", with(signAs(otherSigner, otherSigner.Public(), documentContext, nil), 0), "(0 invalid, 1 of unknown"},
		{"stranger under a trusted name", with(signAs(otherSigner, a.trust.Authorities[1], documentContext, nil), 0), "(1 invalid"},
		{"one authority under two names", with(signAs(a.all[0].cfg.Signer, a.trust.Authorities[1], documentContext, nil), 0), "(1 invalid"},
	}
	for _, tt := range tests {
		d, err := Verify(tt.b, &a.trust, testWall)
		if tt.text == "" {
			if err != nil || d.Count != 1 {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		wantError(t, tt.what, err, ErrThreshold, tt.text)
	}

	// One authority's signature encoded twice does not parse at all.
	d := a.document(t, testEpoch, 0, testWall, 0)
	d.signatures = append(d.signatures, d.signatures[0])
	_, err := Verify(d.Encode(), &a.trust, testWall)
	wantError(t, "same signature twice", err, ErrMalformed, "authority twice")

	// The client's threshold holds, and so does the document's, if higher.
	strict := a.trust
	strict.Threshold = 3
	_, err = Verify(with(nil, 0, 1), &strict, testWall)
	wantError(t, "client wants three", err, ErrThreshold, "has 2 valid of 3 needed")
	loose := a.trust
	loose.Threshold = 1
	_, err = Verify(with(nil, 0), &loose, testWall)
	wantError(t, "document wants two", err, ErrThreshold, "has 1 valid of 2 needed")
}

// Whatever a server changes in a document, it is refused.
func TestAnyChangeIsRefused(t *testing.T) {
	a := testAuthorities(t, 2, 2, testDescriptor(t, 1, RoleMix, nil), testDescriptor(t, 2, RoleEntry, nil))
	d := a.document(t, testEpoch, 0, testWall, 0, 1)
	good := d.Encode()
	if _, err := Verify(good, &a.trust, testWall); err != nil {
		t.Fatal(err)
	}
	rng := prng.FromUint64(4).Stream("flips")
	for i := range 500 {
		at := rng.IntN(len(good))
		if i < 200 {
			at = i % len(d.header) // the header's bytes in any case
		}
		b := slices.Clone(good)
		b[at] ^= 1 << rng.IntN(8)
		if _, err := Verify(b, &a.trust, testWall); err == nil {
			t.Fatalf("byte %d changed and accepted", at)
		}
	}
}

func TestClock(t *testing.T) {
	a := testAuthorities(t, 1, 1)
	b := a.document(t, testEpoch, 0, testWall-2*hour, 0).Encode()
	until := testWall + 3*hour
	tests := []struct {
		what string
		wall int64
		want error
		text string
	}{
		{"in time", testWall, nil, ""},
		{"an hour late", testWall - hour, nil, ""},
		{"an hour and a second late", testWall - hour - 1, ErrNotYetValid, "begins in 1h0m1s"},
		{"last second", until - 1, nil, ""},
		{"an hour fast", until + hour - 1, nil, ""},
		{"past the grace", until + hour, ErrExpired, "ended 1h0m0s ago"},
		{"a year past", until + 365*24*hour, ErrExpired, "ended 8760h0m0s ago"},
		{"end of time", 1<<63 - 1, ErrExpired, "ended"},
	}
	for _, tt := range tests {
		_, err := Verify(b, &a.trust, tt.wall)
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		wantError(t, tt.what, err, tt.want, tt.text)
	}
}

// A clock that is far behind is put right by the times of signing; a liar
// among the authorities cannot push it.
func TestTimeFromSignatures(t *testing.T) {
	a := testAuthorities(t, 2, 3)
	d := a.document(t, testEpoch, 0, testWall+60, 0)
	for i, at := range []int64{testWall + 90, testWall + 1000*hour} { // 2 lies
		if err := a.all[i+1].Sign(d, at); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Verify(d.Encode(), &a.trust, 0)
	if err != nil {
		t.Fatal(err)
	}
	if now := got.Now(0); now != testWall+90 {
		t.Errorf("now is %d, want the second latest signature's %d", now, testWall+90)
	}
	if now := got.Now(testWall + 500); now != testWall+500 {
		t.Errorf("a clock ahead of the signatures was turned back to %d", now)
	}
	// Control: two liars are a threshold, and are believed.
	d = a.document(t, testEpoch, 0, testWall+1000*hour, 1, 2)
	_, err = Verify(d.Encode(), &a.trust, testWall)
	wantError(t, "two liars", err, ErrExpired, "ended")
}

func TestTrustRefused(t *testing.T) {
	key := func(i uint64) []byte { return testSigner(t, i).Public() }
	tests := []struct {
		trust Trust
		text  string
	}{
		{Trust{Network: "", Authorities: [][]byte{key(1)}, Threshold: 1}, `network ""`},
		{Trust{Network: testNetwork, Authorities: nil, Threshold: 1}, "threshold 1 of 0"},
		{Trust{Network: testNetwork, Authorities: [][]byte{key(1)}, Threshold: 0}, "threshold 0 of 1"},
		{Trust{Network: testNetwork, Authorities: [][]byte{key(1)}, Threshold: 2}, "threshold 2 of 1"},
		{Trust{Network: testNetwork, Authorities: make([][]byte, MaxAuthorities+1), Threshold: 1}, "of 33"},
		{Trust{Network: testNetwork, Authorities: [][]byte{key(1)[1:]}, Threshold: 1}, "key 0 has 1983 bytes"},
		{Trust{Network: testNetwork, Authorities: [][]byte{key(1), key(2), key(1)}, Threshold: 2}, "key 2 twice"},
	}
	for i, tt := range tests {
		_, err := NewKeeper(tt.trust, Mark{})
		if !errors.Is(err, ErrTrust) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%d: got %v, want %q", i, err, tt.text)
		}
		if _, err := Verify(nil, &tt.trust, 0); !errors.Is(err, ErrTrust) {
			t.Errorf("%d: Verify: %v", i, err)
		}
	}
}

func TestOtherNetwork(t *testing.T) {
	a := testAuthorities(t, 1, 1)
	trust := a.trust
	trust.Network = "other"
	_, err := Verify(a.document(t, testEpoch, 0, testWall, 0).Encode(), &trust, testWall)
	wantError(t, "other network", err, ErrNetwork, `the document is of "testnet", this network is "other"`)
}

func TestRollback(t *testing.T) {
	a := testAuthorities(t, 1, 1, testDescriptor(t, 1, RoleMix, nil))
	at := func(epoch uint64, revision uint32) []byte {
		return a.document(t, epoch, revision, testWall, 0).Encode()
	}
	k, err := NewKeeper(a.trust, Mark{})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(k *Keeper, b []byte) {
		t.Helper()
		if _, err := k.Accept(b, testWall); err != nil {
			t.Fatal(err)
		}
	}
	if k.Current(testWall) != nil {
		t.Error("a document before the first")
	}
	accept(k, at(testEpoch-1, 0)) // the previous
	accept(k, at(testEpoch, 1))
	accept(k, at(testEpoch, 1)) // the same again
	for _, b := range [][]byte{at(testEpoch-1, 0), at(testEpoch-1, 9), at(testEpoch, 0)} {
		_, err := k.Accept(b, testWall)
		wantError(t, "rollback", err, ErrRollback, "after epoch 500000 revision 1")
	}
	if k.Newest().Epoch != testEpoch || k.Newest().Revision != 1 {
		t.Errorf("newest is %+v", k.Newest())
	}

	// Restarted from its mark, a keeper still refuses; one that forgot does not.
	restarted, err := NewKeeper(a.trust, k.Newest())
	if err != nil {
		t.Fatal(err)
	}
	_, err = restarted.Accept(at(testEpoch, 0), testWall)
	wantError(t, "after restart", err, ErrRollback, "")
	accept(restarted, at(testEpoch, 1))
	forgot, _ := NewKeeper(a.trust, Mark{})
	accept(forgot, at(testEpoch, 0))

	accept(k, at(testEpoch, 2))
	accept(k, at(testEpoch+1, 0)) // the next, an hour early

	// Two documents of one number: the authority has signed twice.
	if _, err := a.all[0].Collect(testDescriptor(t, 2, RoleMix, nil), testWall); err != nil {
		t.Fatal(err)
	}
	_, err = k.Accept(at(testEpoch+1, 0), testWall)
	wantError(t, "conflict", err, ErrConflict, "epoch 500001 revision 0")
	if d := k.Current(testWall); d == nil || d.Count != 1 {
		t.Error("the keeper changed with an error")
	}
	if k.Current(testWall+100*hour) != nil {
		t.Error("an expired document is current")
	}
}

func TestSecondsSaturates(t *testing.T) {
	if d := seconds(1<<63 - 1); d < 100*365*24*time.Hour {
		t.Errorf("got %v", d)
	}
}

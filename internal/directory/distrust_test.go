package directory

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func testDistrust() *Distrust {
	d := &Distrust{Network: testNetwork, Time: testWall}
	for i := 3; i > 0; i-- {
		d.Set(DistrustedNode{Node: id(i), Since: testWall, Reason: "drops cells"})
	}
	d.Set(DistrustedNode{Node: id(2), Since: testWall, Reason: "is somebody else's"})
	return d
}

func TestDistrustIsTheOperatorsWord(t *testing.T) {
	signer, d := testSigner(t, 1000), testDistrust()
	b, err := SignDistrust(signer, d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := OpenDistrust(b, testNetwork, signer.Public())
	if err != nil || !reflect.DeepEqual(back, d) || len(back.Nodes) != 3 {
		t.Errorf("%+v, %v", back, err)
	}
	if !back.Lift(id(1)) || back.Lift(id(1)) || len(back.Nodes) != 2 {
		t.Error("a node is not forgiven once")
	}
	for i := range b {
		if _, err := OpenDistrust(b[:i], testNetwork, signer.Public()); err == nil {
			t.Fatalf("%d bytes of it are believed", i)
		}
	}
	if _, err := OpenDistrust(b, testNetwork, testSigner(t, 1001).Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("of another: %v", err)
	}
	if _, err := OpenDistrust(b, "other", signer.Public()); !errors.Is(err, ErrNetwork) {
		t.Errorf("in another network: %v", err)
	}
	for _, reason := range []string{"", "two\nlines", "\xff", strings.Repeat("x", MaxDistrustReason+1)} {
		d.Set(DistrustedNode{Node: id(1), Reason: reason})
		if _, err := SignDistrust(signer, d); !errors.Is(err, ErrMalformed) {
			t.Errorf("reason %q: %v", reason, err)
		}
	}
}

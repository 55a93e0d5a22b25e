package control

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// A record has these fields and no other: nothing of peers, targets or traffic can be
// in it.
func TestSessionRecordFields(t *testing.T) {
	want := map[string]string{"Token": "control.TokenHash", "Version": "uint32", "Expires": "int64", "Class": "uint8"}
	kind := reflect.TypeFor[SessionRecord]()
	for i := range kind.NumField() {
		f := kind.Field(i)
		if want[f.Name] != f.Type.String() {
			t.Errorf("field %s %v: a session record holds the token's hash, version, expiry and class, and nothing else", f.Name, f.Type)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("it lacks %v", want)
	}
}

// Whoever joins concurrent changes, in whatever order and however often, comes to
// one record, which knows every change.
func TestJoinKnowsNoOrder(t *testing.T) {
	record := rapid.Custom(func(t *rapid.T) SessionRecord {
		return SessionRecord{Version: rapid.Uint32Range(1, 3).Draw(t, "version"), Expires: rapid.Int64Range(0, 3).Draw(t, "expires"), Class: rapid.Uint8Range(0, 3).Draw(t, "class")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := record.Draw(t, "a"), record.Draw(t, "b"), record.Draw(t, "c")
		if a.Join(b) != b.Join(a) || a.Join(b).Join(c) != a.Join(b.Join(c)) || a.Join(a) != a || a.Join(b).Join(b) != a.Join(b) {
			t.Fatalf("%+v, %+v, %+v", a, b, c)
		}
		if j := a.Join(b); j.Version < max(a.Version, b.Version) || j.Expires < max(a.Expires, b.Expires) || a.Version == b.Version && j.Class != max(a.Class, b.Class) {
			t.Fatalf("%+v and %+v make %+v", a, b, j)
		}
	})
}

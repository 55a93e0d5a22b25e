package daemon

import (
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
)

// The URL of an index may be a secret; what is none of a database is refused, and not
// told.
func TestIndexFromASecretStore(t *testing.T) {
	s := secret.NewMemory()
	ring := &keyring{store: s}
	c := setup.ControlConfig{Governing: setup.Governing{IndexSecret: "audit/index"}}
	if _, err := ring.indexed(c); err == nil || !strings.Contains(err.Error(), "audit/index") {
		t.Errorf("a secret that is not there: %v", err)
	}
	version := uint64(0)
	for value, good := range map[string]bool{"postgres://audit:hidden@db/audit\n": true, "hidden/index.db": false} {
		var err error
		if version, err = s.Put(t.Context(), "audit/index", []byte(value), version); err != nil {
			t.Fatal(err)
		}
		got, err := ring.indexed(c)
		if good && (err != nil || got.Index != strings.TrimSpace(value)) || !good && (err == nil || strings.Contains(err.Error(), "hidden")) {
			t.Errorf("%q: %q, %v", value, got.Index, err)
		}
	}
	if got, err := ring.indexed(setup.ControlConfig{}); err != nil || got.Index != "" {
		t.Errorf("without a reference: %q, %v", got.Index, err)
	}
}

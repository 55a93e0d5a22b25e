package registry_test

import (
	"errors"
	"testing"

	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/storetest"
)

func TestMemory(t *testing.T) { storetest.Run(t, registry.NewMemory(nil, nil)) }

func TestRegistry(t *testing.T) { storetest.RunRegistry(t, registry.NewMemory(nil, nil)) }

// TestMemoryPersists: what was kept is there again, what could not be kept is not.
func TestMemoryPersists(t *testing.T) {
	kept := map[string]registry.Entry{}
	full := errors.New("disk full")
	var fault error
	persist := func(e registry.Entry) error {
		if fault == nil {
			kept[e.Key] = e
		}
		return fault
	}
	m := registry.NewMemory(nil, persist)
	a := storetest.Put(t, m, "a", "one", 0)
	storetest.Put(t, m, "b", "one", 0)
	fault = full
	if _, err := m.Put(t.Context(), "a", []byte("two"), a); !errors.Is(err, full) {
		t.Fatalf("error %v of a full disk", err)
	}
	storetest.Want(t, m, "a", "one")
	fault = nil
	again := registry.NewMemory([]registry.Entry{kept["a"], kept["b"]}, persist)
	storetest.Want(t, again, "a", "one")
	storetest.Put(t, again, "a", "two", a)
}

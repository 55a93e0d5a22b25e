package daemon

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/control/settings"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/registry/changes"
)

// TestSettingsHistory: the configuration's history is read page by page, by its
// revisions.
func TestSettingsHistory(t *testing.T) {
	var h SettingsHistory
	if _, err := h.Changes(t.Context(), 0, 1); err == nil {
		t.Error("a configuration that is not open has a history")
	}
	log, err := changes.Open(t.Context(), changes.Config{Store: registry.NewMemory(nil, nil), Schema: settings.Network(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.log.Store(log)
	for i := range 3 {
		c := settings.Change{ID: settings.ID{byte(i + 1)}, Set: map[string]string{settings.LogLevel: "debug"}, Actor: "alice"}
		if _, err := log.Submit(t.Context(), changes.Submission{Change: c}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := h.Changes(t.Context(), 1, 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d changes after the first: %v", len(all), err)
	}
	var c settings.Change
	if err := json.Unmarshal(all[0], &c); err != nil || c.Revision != 2 || c.Actor != "alice" {
		t.Errorf("%s (%v)", all[0], err)
	}
	if some, err := h.Changes(t.Context(), 0, 1); err != nil || len(some) != 1 {
		t.Errorf("a page of one has %d: %v", len(some), err)
	}
}

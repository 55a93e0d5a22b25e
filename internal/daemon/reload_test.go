package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/setup"
)

// A Stream node takes the fleet key that is put in its directory while it runs,
// once, and says how long that took. It goes on with its own while the file is
// damaged or missing, and tells of it.
func TestFleetKeyIsReloaded(t *testing.T) {
	dir := t.TempDir()
	rotate := func() *seal.Key {
		t.Helper()
		if err := setup.RotateFleet(dir, nil); err != nil {
			t.Fatal(err)
		}
		key, _, err := setup.LoadFleet(dir)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := rotate()
	cfg, err := localNode(LocalConfig{Streams: 1}, 0, prng.FromUint64(3), directory.Params{})
	if err != nil {
		t.Fatal(err)
	}
	own := *first
	cfg.Fleet, cfg.FleetDir = &own, dir
	n := startAlone(t, cfg)
	n.cancel() // what it does by itself
	n.running.Wait()
	var taken []seal.Key
	rotateFleet := n.rotateFleet
	n.rotateFleet = func(now machine.Time, key *seal.Key) {
		taken = append(taken, *key)
		rotateFleet(now, key)
	}
	look := func(what string, want int, wrong bool) {
		t.Helper()
		if err := n.reloadFleet(time.Now()); (err != nil) != wrong || len(taken) != want {
			t.Errorf("%s: %d keys taken, want %d; %v", what, len(taken), want, err)
		}
	}
	look("nothing new", 0, false)
	second := rotate()
	look("replaced", 1, false)
	look("looked at again", 1, false)
	if taken[0] != *second || *n.cfg.Fleet != *second || own != (seal.Key{}) {
		t.Error("another key was taken, or the replaced one is not overwritten")
	}
	path := filepath.Join(dir, setup.FleetFile)
	if err := os.WriteFile(path, []byte("nyx-secret-fleet-1 AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	look("cut", 1, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look("missing", 1, true)
	rotate()
	look("there again", 2, false)
	n.reloads.observe(90 * time.Second)
	var page strings.Builder
	writeReloads(&page, []part{n.part()})
	for _, want := range []string{`_bucket{part="stream-0",le="5"} 2`, `_bucket{part="stream-0",le="+Inf"} 3`, `_count{part="stream-0"} 3`} {
		if !strings.Contains(page.String(), "key_reload_duration"+want) {
			t.Errorf("the metrics lack %s:\n%s", want, page.String())
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

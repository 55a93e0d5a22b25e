package daemon

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// distrusts has the operator of an authority say that nodes are not to be used, or
// none.
func (c *council) distrusts(i int, nodes ...wire.NodeID) {
	c.Helper()
	d := &directory.Distrust{Network: localName, Time: time.Now().Unix()}
	for _, id := range nodes {
		d.Set(directory.DistrustedNode{Node: id, Since: d.Time, Reason: "drops cells"})
	}
	b, err := directory.SignDistrust(c.signers[i], d)
	if err == nil {
		err = setup.SaveState(filepath.Join(c.dirs[i], distrustFile), b)
	}
	if err != nil {
		c.Fatal(err)
	}
}

// What the operators of a threshold of authorities distrust, routes leave, also after
// a restart, until they say otherwise. Controls: the word of one, and one that another
// authority has signed, moves nothing.
func TestOperatorsDistrustANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3, 2, 0, 0, true)
		defer c.close()
		c.stand()
		bad := c.reporter(2).id
		const soon = directory.RoundLength + bulletinPoll
		leaves := func(want bool, when string) {
			t.Helper()
			advance(soon)
			if known := c.conditions(0); known == nil || known.Leaves(bad) != want {
				t.Errorf("%s a client knows %v", when, known != nil)
			}
		}
		c.distrusts(0, bad)
		leaves(false, "by the word of one")
		b, err := setup.LoadState(filepath.Join(c.dirs[0], distrustFile))
		if err == nil {
			err = setup.SaveState(filepath.Join(c.dirs[1], distrustFile), b)
		}
		if err != nil {
			t.Fatal(err)
		}
		leaves(false, "by the word of one, twice")
		c.distrusts(1, bad)
		leaves(true, "by the word of two")
		c.stop(1)
		c.start(1)
		leaves(true, "after a restart")
		c.distrusts(1)
		leaves(false, "after one has forgiven")
	})
}

// The command's word is signed by the authority's key and kept; a file that another
// has signed is refused with what to do.
func TestChangeDistrust(t *testing.T) {
	files, _ := initNetwork(t)
	authority := func(i int) *setup.Config {
		cfg, err := setup.LoadConfig(files[i])
		if err != nil || !cfg.Authority {
			t.Fatalf("%s: %v", files[i], err)
		}
		return cfg
	}
	cfg, bad := authority(0), directory.DistrustedNode{Node: wire.NodeID{7}, Since: 1, Reason: "drops cells"}
	if _, err := ChangeDistrust(cfg, nil, func(d *directory.Distrust) error { d.Set(bad); return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := ChangeDistrust(cfg, nil, nil)
	if err != nil || len(d.Nodes) != 1 || d.Nodes[0] != bad {
		t.Errorf("%+v, %v", d, err)
	}
	b, err := setup.LoadState(filepath.Join(cfg.State, distrustFile))
	if err != nil {
		t.Fatal(err)
	}
	other := authority(1)
	if err := setup.SaveState(filepath.Join(other.State, distrustFile), b); err != nil {
		t.Fatal(err)
	}
	if _, err := ChangeDistrust(other, nil, nil); !contains(err, "remove it") {
		t.Errorf("another's word: %v", err)
	}
}

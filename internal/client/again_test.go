package client_test

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/lab"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// carriedOn runs a user whose access link loses datagrams on their way out, and
// returns what its client and all gateways counted meanwhile.
func carriedOn(t *testing.T, access sim.Link, body int, tune func(*client.Config)) (own, ends trace.Counts, w *lab.Network) {
	t.Helper()
	w, u := withUser(t, lab.Plan{Streams: 4, Mixes: 9, Level: wire.Standard, Client: tune})
	ask(t, w, u, "", 100, 20*time.Second)
	for _, g := range w.Gateways {
		w.Sim.SetLink(u.Node, g.Node, access)
	}
	count := func() (own, ends trace.Counts) {
		for _, g := range w.Gateways {
			n := g.Core().Stats()
			ends.Add(&n)
		}
		return u.Core().Stats(), ends
	}
	ownBefore, endsBefore := count()
	if body > 0 {
		ask(t, w, u, "", body, 60*time.Second)
	}
	w.Sim.RunFor(10 * time.Second)
	own, ends = count()
	for i := range own {
		own[i] -= ownBefore[i]
		ends[i] -= endsBefore[i]
	}
	if a := u.Core().Avoids(w.Sim.Now()); len(a) > 0 || own[trace.RoutesTampered] > 0 {
		t.Errorf("somebody is blamed: %v", a)
	}
	return own, ends, w
}

// What a client's link loses comes to the end of its route all the same, dummies as
// well as cells with content, and the session notices nothing: all is as on a link
// that loses nothing, but for a few that are lost twice. Control: without repairs the end misses what was lost, and
// content has to be sent again.
func TestLostCellsAreSentAgain(t *testing.T) {
	whole, lossy := sim.Link{Latency: 10 * time.Millisecond}, sim.Link{Latency: 10 * time.Millisecond, Loss: 30_000}
	for what, body := range map[string]int{"idle": 0, "upload": 400_000} {
		_, none, _ := carriedOn(t, whole, body, nil)
		own, with, _ := carriedOn(t, lossy, body, nil)
		off, without, _ := carriedOn(t, lossy, body, func(c *client.Config) { c.Unrepaired = true })
		// Of those that were lost twice, which 3 % are, some come too late.
		for _, c := range []trace.Counter{trace.CellDelivered, trace.SessionPacketIn, trace.Rebuilt} {
			if most := int(own[trace.CellsAgain]) * 3 / 100; own[trace.CellsAgain] < 100 || abs(int(with[c])-int(none[c])) > most {
				t.Errorf("%s: %d cells were sent again; %s is %d, without losses %d", what, own[trace.CellsAgain], c, with[c], none[c])
			}
		}
		if missing := off.CellsOut() - without[trace.CellDelivered]; missing < off.CellsOut()/50 || off[trace.CellsAgain] > 0 {
			t.Errorf("control: %s: %d of %d cells are missing", what, missing, off.CellsOut())
		}
		if body > 0 && without[trace.Rebuilt] == 0 {
			t.Error("control: the session rebuilds nothing either")
		}
	}
}

// Where the round trip to the entry is longer than the reserve, nothing is sent
// again: it would come late and be told by that.
func TestWhatWouldComeLateIsNotSent(t *testing.T) {
	far := sim.Link{Latency: 60 * time.Millisecond, Loss: 30_000}
	own, ends, _ := carriedOn(t, far, 0, nil)
	if own[trace.CellsAgain] > 0 || ends[trace.LinkMissingTold] == 0 {
		t.Errorf("%d cells were sent again, entries told %d times", own[trace.CellsAgain], ends[trace.LinkMissingTold])
	}
}

// A network that changes the order of datagrams loses nothing: some cells are sent
// twice, the second ends at the first mix, and nobody is blamed.
func TestReorderingBlamesNobody(t *testing.T) {
	own, ends, w := carriedOn(t, sim.Link{Latency: 10 * time.Millisecond, Jitter: 12 * time.Millisecond}, 100_000, nil)
	var twice, further uint64
	for _, r := range w.Relays {
		n := r.Core().Stats()
		twice += n[trace.DropCellReplay]
	}
	for _, g := range w.Gateways {
		n := g.Core().Stats()
		further += n[trace.DropCellReplay]
	}
	if own[trace.CellsAgain] == 0 || twice > own[trace.CellsAgain] || twice+5 < own[trace.CellsAgain] || further > 0 {
		t.Errorf("%d cells were sent again, mixes refused %d, ends %d", own[trace.CellsAgain], twice, further)
	}
	if all, came := own.CellsOut(), ends[trace.CellDelivered]; came < all-all/100 {
		t.Errorf("%d of %d cells arrived", came, all)
	}
}

func abs(n int) int { return max(n, -n) }

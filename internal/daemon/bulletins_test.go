package daemon

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// reportingNode is node i of a council's network, whose reports the test makes.
type reportingNode struct {
	*council
	node int
	id   wire.NodeID
}

func (c *council) reporter(i int) *reportingNode {
	c.Helper()
	d, err := directory.ParseDescriptor(descriptor(c.T, i))
	if err != nil {
		c.Fatal(err)
	}
	return &reportingNode{c, i, d.ID}
}

// reports posts a report to the processes that are named, and returns the last
// one's answer.
func (r *reportingNode) reports(to []int, change func(*directory.Report)) (status int) {
	r.Helper()
	cfg, err := localNode(LocalConfig{Streams: 2}, r.node, prng.FromUint64(99), directory.Params{})
	if err != nil {
		r.Fatal(err)
	}
	m := &directory.Report{Network: localName, Node: r.id, Time: time.Now().Unix()}
	change(m)
	b, err := directory.SignReport(cfg.Identity, m)
	if err != nil {
		r.Fatal(err)
	}
	for _, i := range to {
		status, _ = r.ask(i, http.MethodPost, reportPath, b)
	}
	return status
}

// view is what process i publishes.
func (c *council) view(i int) *directory.View {
	c.Helper()
	_, b := c.ask(i, http.MethodGet, documentPath, nil)
	d, err := directory.Verify(b, &c.trust, time.Now().Unix())
	if err != nil {
		c.Fatal(err)
	}
	v, err := directory.NewView(d)
	if err != nil {
		c.Fatal(err)
	}
	return v
}

// hearer is a client that asks servers for bulletins.
type hearer struct {
	*listener
	known *directory.Conditions // since it asked last
}

// hearer returns a client with a view; whoever's name begins with "replica" is asked
// first.
func (c *council) hearer(v *directory.View, hosts ...string) *hearer {
	c.Helper()
	var servers []mirror.Server
	var clients []*http.Client
	for _, h := range hosts {
		servers = append(servers, mirror.Server{URL: "http://" + h, Replica: strings.HasPrefix(h, "replica")})
		clients = append(clients, c.client())
	}
	l, err := newListener(c.trust, mirror.NewAsker(servers, clients, prng.FromUint64(1).Stream("asker"), logOrNone(nil)))
	if err != nil {
		c.Fatal(err)
	}
	h := &hearer{listener: l}
	l.view.Store(v)
	l.deliver = func(c *directory.Conditions, _ time.Duration) { h.known = c }
	l.plan = func(*wire.CoverPlan) {}
	return h
}

func (h *hearer) faults() [query.NumReasons]uint64 { return h.from.asker.Stats().Faults }

// conditions are what a client knows that has asked process i.
func (c *council) conditions(i int) *directory.Conditions {
	c.Helper()
	h := c.hearer(c.view(i), host(i))
	h.ask(c.Context())
	return h.known
}

// What nodes report to the authorities stands within a round and a poll in what
// any one of the processes hands out, as long as a threshold of them runs.
func TestReportsBecomeConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3, 2, 0, 0, true)
		defer c.close()
		c.stand()
		all, one := c.reporter(2), c.reporter(3)
		if status := all.reports([]int{0, 1, 2}, func(r *directory.Report) { r.Draining = true }); status != http.StatusOK {
			t.Fatalf("a report is answered %d", status)
		}
		one.reports([]int{1}, func(r *directory.Report) { r.Draining = true })
		advance(directory.RoundLength + bulletinPoll)
		for i := range 3 {
			known := c.conditions(i)
			if known == nil || !known.Leaves(all.id) {
				t.Errorf("%s: a client does not know that a node drains", host(i))
			}
			if known.Leaves(one.id) {
				t.Errorf("%s: the word of one authority counts", host(i))
			}
		}
		c.stop(2)
		advance(2 * time.Minute)
		if known := c.conditions(0); known == nil || !known.Leaves(all.id) {
			t.Error("two authorities of three say nothing")
		}
		c.stop(1)
		advance(directory.BulletinAge)
		if c.conditions(0) != nil {
			t.Error("one authority of three is believed")
		}
	})
}

// A report that is forged, comes twice, or is of a node that is not known is
// refused, and nothing changes.
func TestReportsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 1, 1, 0, 0, true)
		defer c.close()
		c.stand()
		r, to := c.reporter(2), []int{0}
		if status, _ := c.ask(0, http.MethodPost, reportPath, []byte("no report")); status != http.StatusForbidden {
			t.Errorf("nonsense: %d", status)
		}
		if status := r.reports(to, func(m *directory.Report) { m.Node = c.reporter(3).id; m.Draining = true }); status != http.StatusForbidden {
			t.Errorf("of another node: %d", status)
		}
		if status := c.reporter(5).reports(to, func(*directory.Report) {}); status != http.StatusForbidden {
			t.Errorf("of a node without a descriptor: %d", status)
		}
		if status := r.reports(to, func(*directory.Report) {}); status != http.StatusOK {
			t.Errorf("the first: %d", status)
		}
		if status := r.reports(to, func(m *directory.Report) { m.Draining = true }); status != http.StatusForbidden {
			t.Errorf("a second of the same second: %d", status)
		}
		if status, _ := c.ask(0, http.MethodPost, reportPath, []byte(strings.Repeat("x", directory.MaxReportSize+1))); status != http.StatusBadRequest {
			t.Errorf("too long: %d", status)
		}
		advance(directory.RoundLength + time.Second)
		if known := c.conditions(0); known == nil || known.Leaves(r.id) || known.Leaves(c.reporter(3).id) {
			t.Error("what was refused counts")
		}
	})
}

// A gauge tells the share of the capacity that was used since the last report, in
// tenths, and the longest wait, in steps.
func TestGauge(t *testing.T) {
	var g gauge
	begun := time.Unix(1000, 0)
	if load, queue := g.read(begun, drive.Stats{DatagramsOut: 5000}, 100); load != 0 || queue != 0 {
		t.Errorf("the first: %d, %d", load, queue)
	}
	g.waits = 23 * time.Millisecond
	if load, queue := g.read(begun.Add(10*time.Second), drive.Stats{DatagramsOut: 5750}, 100); load != 7 || queue != 20 {
		t.Errorf("the second: %d, %d", load, queue)
	}
	if load, queue := g.read(begun.Add(20*time.Second), drive.Stats{DatagramsOut: 99_999}, 100); load != directory.LoadMax || queue != 0 {
		t.Errorf("the third: %d, %d", load, queue)
	}
	turns := 0
	g.sample(func(f func(machine.Time)) bool { f(0); return true }, func(machine.Time, time.Duration) { turns++ })
	if turns != 1 {
		t.Errorf("%d turns of the loop for a sample", turns)
	}
}

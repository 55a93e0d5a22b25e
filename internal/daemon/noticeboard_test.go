package daemon

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
)

// replica starts a replica of a council's network.
func (c *council) replica(name string) *Replica {
	c.Helper()
	var urls []string
	for i := range c.signers {
		urls = append(urls, "http://"+host(i))
	}
	r, err := StartReplica(ReplicaConfig{Trust: c.trust, Authorities: urls, listener: c.listen(name), client: c.client()})
	if err != nil {
		c.Fatal(err)
	}
	return r
}

// With all authorities dead a client still learns from a replica that a node leaves.
// Control: one that has authorities alone to ask learns nothing.
func TestReplicasTellWhatTheDeadAuthoritiesSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3, 2, 0, 0, true)
		defer c.close()
		c.stand()
		for _, name := range []string{"replica-0", "replica-1"} {
			defer c.replica(name).Close()
		}
		leaves := c.reporter(2)
		leaves.reports([]int{0, 1, 2}, func(r *directory.Report) { r.Draining = true })
		advance(directory.RoundLength + bulletinPoll + replicaPoll)
		v := c.view(0)
		for i := range c.all {
			c.stop(i)
		}
		for _, servers := range [][]string{{"replica-0"}, {"replica-0", "replica-1", host(0), host(1), host(2)}} {
			h := c.hearer(v, servers...)
			if h.ask(t.Context()); h.known == nil || !h.known.Leaves(leaves.id) {
				t.Errorf("of %v a client does not learn that a node leaves", servers)
			}
			if n := h.faults()[query.Forged] + h.faults()[query.Old]; n != 0 {
				t.Errorf("of %v: %d faults of replicas that are honest", servers, n)
			}
		}
		h := c.hearer(v, host(0), host(1), host(2))
		if h.ask(t.Context()); h.known != nil {
			t.Error("control: dead authorities tell of the nodes")
		}
		advance(directory.BulletinAge)
		h = c.hearer(v, "replica-0")
		if h.ask(t.Context()); h.known != nil || h.faults()[query.Old] == 0 {
			t.Errorf("bulletins of a minute ago: faults %v", h.faults())
		}
	})
}

// A server that hands out fewer bulletins than a threshold of authorities has signed,
// or what they have not signed, or no news for long, is reported with the reason, and
// another is asked. (Control: with AcceptBundle or Late left out of what a listener
// does, the client knows nothing of the node that leaves, since who is asked first
// keeps it from it.)
func TestBulletinsThatAreWithheldOrForged(t *testing.T) {
	var hands http.HandlerFunc
	for _, c := range []struct {
		name  string
		hands func(all [][]byte) http.HandlerFunc
		want  query.Reason
	}{
		{"one of two that are needed", func(all [][]byte) http.HandlerFunc { return bundle(all[:1]) }, query.Forged},
		{"one of them twice", func(all [][]byte) http.HandlerFunc { return bundle([][]byte{all[0], all[0]}) }, query.Forged},
		{"none", func([][]byte) http.HandlerFunc { return bundle(nil) }, query.Forged},
		{"a byte changed", func(all [][]byte) http.HandlerFunc {
			last := all[1]
			last[len(last)-1] ^= 1
			return bundle(all)
		}, query.Forged},
		{"of a minute before", bundle, query.Old},
		{"nothing new, it says", func([][]byte) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }
		}, query.Old},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := begin(t, 3, 2, 0, 0, true)
			defer w.close()
			w.stand()
			rogue := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hands(w, r) }))
			port := w.listen("replica")
			go rogue.Serve(port)
			defer rogue.Close()
			advance(directory.RoundLength + bulletinPoll)
			_, b := w.ask(0, http.MethodGet, bulletinPath, nil)
			all, err := directory.ParseBundle(b)
			if err != nil || len(all) != 3 {
				t.Fatalf("%d bulletins: %v", len(all), err)
			}
			hands = bundle(all)
			h := w.hearer(w.view(0), "replica", host(0))
			if h.ask(t.Context()); h.known == nil || h.faults() != [query.NumReasons]uint64{} {
				t.Fatalf("%s: honest at first, and not believed: %v", c.name, h.faults())
			}
			leaves := w.reporter(2)
			if c.want == query.Old {
				advance(2 * directory.BulletinAge)
			}
			leaves.reports([]int{0, 1, 2}, func(r *directory.Report) { r.Draining = true })
			advance(directory.RoundLength + bulletinPoll)
			hands = c.hands(all)
			h.ask(t.Context())
			if h.known == nil || !h.known.Leaves(leaves.id) {
				t.Errorf("%s: the client does not learn that a node leaves", c.name)
			}
			if f := h.faults(); f[c.want] != 1 {
				t.Errorf("%s: reported as %v, not once as %v", c.name, f, c.want)
			}
		})
	}
}

// bundle hands out bulletins.
func bundle(all [][]byte) http.HandlerFunc {
	b := directory.EncodeBundle(all)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", "tag")
		w.Write(b)
	}
}

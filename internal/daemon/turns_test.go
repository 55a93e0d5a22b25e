package daemon

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
)

// rogue is a member of a council that has left the others: it answers nobody, and
// asks for signatures on what it likes.
type rogue struct {
	*council
	place int
	own   *directory.Authority // holds what the others hold
	last  []byte               // what was answered last
}

// newRogue returns a council with its first document, and the rogue in it.
func newRogue(t *testing.T, n, threshold, place int) *rogue {
	r := &rogue{council: newCouncil(t, n, threshold), place: place}
	r.own = builder(t, r.council, r.signers[place], localName)
	r.give(0, 1, 2, 3)
	advance(3 * time.Second)
	r.want(present(), 0, 4)
	r.stop(place)
	r.setMute(host(place), true)
	return r
}

// give posts new descriptors of nodes to everybody.
func (r *rogue) give(nodes ...int) {
	r.Helper()
	for _, i := range nodes {
		d := descriptor(r.T, i)
		if _, err := r.own.Collect(d, time.Now().Unix()); err != nil {
			r.Fatal(err)
		}
		for j, a := range r.all {
			if a == nil {
				continue
			}
			if status, answer := r.ask(j, http.MethodPost, descriptorPath, d); status != http.StatusOK {
				r.Fatalf("descriptor %d at %s: %d %s", i, host(j), status, answer)
			}
		}
	}
}

// propose asks the others to sign a document of a number, and returns how many
// have.
func (r *rogue) propose(epoch, revision uint64) (signed int) {
	r.Helper()
	d, err := r.own.Build(epoch, uint32(revision))
	if err == nil {
		err = r.own.Sign(d, time.Now().Unix())
	}
	if err != nil {
		r.Fatal(err)
	}
	for j, a := range r.all {
		if a == nil {
			continue
		}
		var status int
		if status, r.last = r.ask(j, http.MethodPost, signPath, d.Proposal()); status == http.StatusOK {
			signed++
		}
	}
	return signed
}

// honest is one of the others.
func (r *rogue) honest() int { return (r.place + 1) % len(r.all) }

// signed is the mark of what an authority has signed last.
func (c *council) signed(i int) directory.Mark {
	a := c.all[i]
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signed
}

// revision is the greatest that one of the others serves of the present epoch.
func (r *rogue) revision() (most uint64) {
	for j, a := range r.all {
		if a == nil {
			continue
		}
		if m := r.newest(j); m.Epoch == present() {
			most = max(most, uint64(m.Revision))
		}
	}
	return most
}

// progress checks that one of the others serves what has changed in time,
// which is a turn later if the rogue stands first in the order, and the rest
// within the time for which a silent rogue holds up who looks at it.
func (r *rogue) progress(nodes int, rest time.Duration) {
	r.Helper()
	within := 3*time.Second + rest
	if r.place == 0 {
		within += turnMax
	}
	first := r.honest()
	for began := time.Now(); time.Since(began) < within; advance(time.Second) {
		if d, err := directory.ParseDocument(r.served(first)); err == nil && d.Count == nodes && d.Epoch == present() {
			break
		}
	}
	advance(feedTimeout)
	d, err := directory.ParseDocument(r.served(first))
	if err != nil {
		r.Fatal(err)
	}
	r.want(present(), d.Revision, nodes)
}

// One authority of three can neither use up the numbers of an epoch, nor bring
// about documents of nothing, wherever it stands in the order; and when something
// has changed, the other two have it in a document in time.
func TestOneMaliciousAuthority(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprintf("place %d", place), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRogue(t, 3, 2, place)
				defer r.close()
				epoch, base := present(), r.revision()+1
				tries := func(when string) {
					t.Helper()
					for _, n := range []struct{ epoch, revision uint64 }{
						{epoch, math.MaxUint32}, {epoch, base + 3*share}, {epoch, base + uint64(place+1)*share},
						{epoch + 1, 0}, {epoch + 1, math.MaxUint32}, {epoch - 1, math.MaxUint32},
					} {
						if n := r.propose(n.epoch, n.revision); n != 0 {
							t.Errorf("%s: %d signed", when, n)
						}
					}
				}
				tries("nothing has changed")
				own := uint64(place) * share
				for i := range uint64(60) {
					if n := r.propose(epoch, base+own+i); n != 0 {
						t.Errorf("%d signed a document of nothing", n)
					}
					advance(time.Second)
				}
				if r.revision() >= base {
					t.Errorf("revision %d was made of nothing", r.revision())
				}
				r.give(4)
				tries("something has changed")
				if n := r.propose(epoch, base-1); n != 0 {
					t.Errorf("%d signed another document of the number that is published", n)
				}
				// The last of its numbers, when a document is due: signed, and so
				// published, if it is the first in the order; and no more than that.
				if n := r.propose(epoch, base+own+share-1); (n > 0) != (place == 0) {
					t.Errorf("%d signed the last number: %s", n, r.last)
				}
				r.progress(5, 0)
				r.give(5)
				r.progress(6, 0)
				r.nextEpoch(6)
			})
		})
	}
}

// nextEpoch checks that the honest two make the document of the next epoch in
// time, whatever the rogue asks for before it begins.
func (r *rogue) nextEpoch(nodes int) {
	r.Helper()
	next := present() + 1
	begin := time.Unix(directory.Params{}.Begin(next), 0)
	advance(time.Until(begin) - turnSlack - time.Second)
	if n := r.propose(next, uint64(r.place)*share); n != 0 {
		r.Errorf("%d signed a document of the next epoch before its time: %s", n, r.last)
	}
	advance(turnSlack + time.Second)
	r.progress(nodes, 0)
}

// A rogue that has a node whose descriptor changes every few seconds has no more
// documents made than a burst and one a turn, and bars nobody.
func TestDocumentsRest(t *testing.T) {
	for _, place := range []int{0, 2} {
		t.Run(fmt.Sprintf("place %d", place), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRogue(t, 3, 2, place)
				defer r.close()
				const seconds, step = 240, 5
				made, last := uint64(0), r.revision()
				for range seconds / step {
					r.give(4)
					r.propose(present(), r.revision()+1+uint64(r.place)*share)
					advance(step * time.Second)
					if now := r.revision(); now != last {
						made, last = made+1, now
					}
				}
				t.Logf("%d documents in %d s", made, seconds)
				if most := uint64(burst + seconds/turnMax.Seconds() + 1); made > most || made < most/2 {
					t.Errorf("%d documents in %d s, at most %d", made, seconds, most)
				}
				r.give(5)
				r.progress(6, turnMax)
			})
		})
	}
}

// A rogue that has all others sign the last of its numbers, one by one, and keeps
// the signatures, does not bar the next in the order.
func TestWithheldSignaturesBarNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t, 4, 3, 0)
		defer r.close()
		r.give(4)
		if n := r.propose(present(), r.revision()+share); n != 3 {
			t.Fatalf("%d signed: %s", n, r.last)
		}
		if r.revision() != 0 {
			t.Fatal("two signatures of three made a document")
		}
		r.give(5)
		r.progress(6, 0)
	})
}

// A descriptor that its node gave to one authority only is soon with all: it does
// not keep them from agreeing.
func TestDescriptorsArePassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t, 3, 2, 0)
		defer r.close()
		d := descriptor(t, 4)
		if status, answer := r.ask(2, http.MethodPost, descriptorPath, d); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		r.progress(5, 0)
	})
}

// Who asks again is given the signature that was made: it costs no other.
func TestSignaturesAreMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRogue(t, 3, 2, 0)
		defer r.close()
		r.give(4)
		number := r.revision() + 1
		if n := r.propose(present(), number); n == 0 {
			t.Fatalf("nobody signed: %s", r.last)
		}
		first := r.last
		for range 3 {
			advance(time.Second)
			if r.propose(present(), number); !bytes.Equal(r.last, first) {
				t.Error("signed again")
			}
		}
	})
}

// An authority that has restarted vouches for no part of the network, which is
// all that it knows until nodes have posted again. The control is one that has
// signed nothing before.
func TestRestartedSignsLater(t *testing.T) {
	for name, forgets := range map[string]bool{"restarted": false, "new": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := standing(t, 2, 2)
				defer c.close()
				c.stop(0)
				c.stop(1)
				if forgets {
					c.dirs[1] = t.TempDir()
				}
				c.start(1)
				r := &rogue{council: c, place: 0, own: builder(t, c, c.signers[0], localName)}
				r.give(0, 1) // to the second only
				if signed := r.propose(present(), 1) > 0; signed != forgets {
					t.Errorf("a document of two nodes out of four was signed: %v, %s", signed, r.last)
				}
				r.give(0, 1, 2, 3)
				advance(2*regather - time.Second)
				before := c.signed(1)
				advance(2 * time.Second)
				if signed := c.signed(1); !forgets && (before.Revision != 0 || signed.Revision != 1+share) {
					t.Errorf("revision %d signed before nodes had time to post, %d after it", before.Revision, signed.Revision)
				}
			})
		})
	}
}

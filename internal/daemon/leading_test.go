package daemon

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
)

// Authorities that are processes of their own come to one document: in every
// epoch, and again when descriptors change.
func TestAuthoritiesMakeOneDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3, 2)
		defer c.close()
		for i := range 3 {
			if status, _ := c.ask(i, http.MethodGet, documentPath, nil); status != http.StatusServiceUnavailable {
				t.Errorf("%s answers %d before there is a document", host(i), status)
			}
		}
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		c.want(present(), 0, 4)
		c.post(4)
		advance(3 * time.Second)
		c.want(present(), 1, 5)
		advance(time.Hour)
		c.want(present(), 0, 5)
		advance(time.Minute)
		c.want(present(), 0, 5) // without a change there is no other revision
	})
}

// A node that never stops posting keeps no document from being made: not with
// one descriptor, which again is no change, and not with new ones.
func TestPostsDoNotHoldUpDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := standing(t, 3, 2)
		defer c.close()
		post := func(d []byte) {
			for i := range c.all {
				if status, answer := c.ask(i, http.MethodPost, descriptorPath, d); status != http.StatusOK {
					t.Fatalf("%d %s", status, answer)
				}
			}
			advance(settle / 2)
		}
		serves := func(what string, revision uint32) {
			d, err := directory.ParseDocument(c.served(0))
			if err != nil {
				t.Fatal(err)
			}
			if d.Revision < revision {
				t.Errorf("while %s: revision %d, want %d or more", what, d.Revision, revision)
			}
		}
		same := descriptor(t, 4)
		for range 2 * settleMax / settle {
			post(same)
		}
		serves("one descriptor came again and again", 1)
		version := uint64(time.Now().Unix())
		for i := range uint64(4 * settleMax / settle) {
			post(descriptorAt(t, 4, version+i))
		}
		serves("new descriptors came", 2)
	})
}

// builder makes documents as an authority would, of its own choice.
func builder(t *testing.T, c *council, signer *seal.Signer, network string, nodes ...int) *directory.Authority {
	t.Helper()
	a, err := directory.NewAuthority(directory.AuthorityConfig{Network: network, Signer: signer, Threshold: c.trust.Threshold, Authorities: len(c.signers)})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range nodes {
		if _, err := a.Collect(descriptor(t, i), time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// A follower signs what a trusted authority has signed, what it would build
// itself, what is of the present, and one document of a number.
func TestFollowersSignNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3, 3) // so that two signatures publish nothing
		defer c.close()
		c.stop(0) // its place is taken by documents of our making
		c.post(0, 1, 2, 3)
		stranger, err := seal.NewSigner(&[seal.SignSeedSize]byte{9})
		if err != nil {
			t.Fatal(err)
		}
		e := present()
		sign := func(signer *seal.Signer, epoch uint64, revision uint32, nodes ...int) []byte {
			a := builder(t, c, signer, localName, nodes...)
			d, err := a.Build(epoch, revision)
			if err != nil {
				t.Fatal(err)
			}
			if signer != nil {
				if err := a.Sign(d, time.Now().Unix()); err != nil {
					t.Fatal(err)
				}
			}
			return d.Proposal()
		}
		unsigned, err := builder(t, c, stranger, localName, 0, 1, 2, 3).Build(e, 0)
		if err != nil {
			t.Fatal(err)
		}
		forged := sign(c.signers[0], e, 0, 0, 1, 2, 3)
		forged[len(forged)-1] ^= 1 // the last byte of the signature
		leader := c.signers[0]
		for _, s := range []struct {
			what     string
			document []byte
			status   int
		}{
			{"nonsense", []byte("no document"), 400},
			{"no signature", unsigned.Proposal(), 403},
			{"a whole document", unsigned.Encode(), 400},
			{"a stranger's signature", sign(stranger, e, 0, 0, 1, 2, 3), 403},
			{"a forged signature", forged, 403},
			{"a node missing", sign(leader, e, 0, 0, 1, 2), 409},
			{"a node too many", sign(leader, e, 0, 0, 1, 2, 3, 4), 409},
			{"an epoch to come", sign(leader, e+3, 0, 0, 1, 2, 3), 409},
			{"an epoch long past", sign(leader, e-3, 0, 0, 1, 2, 3), 409},
			{"the leader's", sign(leader, e, 1, 0, 1, 2, 3), 200},
			{"the leader's, again", sign(leader, e, 1, 0, 1, 2, 3), 200},
			{"a lower revision", sign(leader, e, 0, 0, 1, 2, 3), 409},
		} {
			status, answer := c.ask(1, http.MethodPost, signPath, s.document)
			if status != s.status {
				t.Errorf("%s: %d %.80q, want %d", s.what, status, answer, s.status)
			}
			if status != 200 {
				continue
			}
			if d, err := directory.ParseProposal(answer); err != nil || d.KeepValid(&c.trust) != 2 {
				t.Errorf("%s: with its signature: %v", s.what, err)
			}
		}
		// Another document of the number that was signed: refused, by who has
		// restarted too; and signed by who has forgotten (the control).
		c.post(4)
		other := sign(leader, e, 1, 0, 1, 2, 3, 4)
		refused := func() bool {
			d, err := directory.ParseProposal(other)
			if err != nil {
				t.Fatal(err)
			}
			a := c.all[1]
			a.mu.Lock()
			defer a.mu.Unlock()
			return contains(a.sign(d, time.Now().Unix()), "was signed")
		}
		if status, answer := c.ask(1, http.MethodPost, signPath, other); status != 409 || !strings.Contains(string(answer), "was signed") || !refused() {
			t.Errorf("two documents of one number were signed: %d %.80q", status, answer)
		}
		c.stop(1)
		c.start(1)
		c.post(0, 1, 2, 3, 4)
		if !refused() {
			t.Error("two documents of one number were signed, before and after a restart")
		}
		c.stop(1)
		c.dirs[1] = t.TempDir()
		c.start(1)
		c.post(0, 1, 2, 3, 4)
		if status, answer := c.ask(1, http.MethodPost, signPath, other); status != 200 {
			t.Errorf("control: who does not know what it signed answers %d %.80q", status, answer)
		}
	})
}

// One of three may be down or silent; without two there is no document, its
// lack is said, and one is made when they are back.
func TestThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3, 2)
		defer c.close()
		c.stop(1)
		c.post(0, 1, 2, 3)
		advance(3 * time.Second)
		c.want(present(), 0, 4)
		c.setMute(host(1), true) // connections to it succeed, and nothing follows
		c.post(4)
		advance(3 * time.Second)
		status, _ := c.ask(2, http.MethodGet, documentPath, nil)
		if c.newest(0).Revision != 1 || status != 200 {
			t.Error("a silent follower held up a document")
		}
		c.stop(2)
		c.post(5)
		advance(time.Minute)
		if err := c.all[0].Err(); !contains(err, "1 signatures of 2 needed") {
			t.Errorf("alone: %v", err)
		}
		c.want0(1, 5)
		c.setMute(host(1), false)
		c.start(1)
		c.start(2)
		c.post(0, 1, 2, 3, 4, 5)
		advance(time.Minute)
		d, err := directory.Verify(c.served(0), &c.trust, time.Now().Unix())
		if err != nil || d.Count != 6 || d.Revision < 2 {
			t.Errorf("after they are back: %+v, %v", d, err)
		}
		c.want(present(), d.Revision, 6)
	})
}

// A document that others publish while an older one is being signed is not
// replaced by that.
func TestNoOlderDocumentIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3, 2)
		defer c.close()
		c.stop(1)
		c.stop(2)
		leader := c.all[0]
		follower := builder(t, c, c.signers[1], localName, 0, 1, 2, 3)
		slow := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != signPath {
				http.NotFound(w, r)
				return
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			d, err := directory.ParseProposal(b)
			if err != nil {
				t.Error(err)
				return
			}
			newer, err := follower.Build(d.Epoch, d.Revision+1)
			if err != nil {
				t.Error(err)
				return
			}
			leader.mu.Lock()
			leader.publish(newer, time.Now().Unix())
			leader.mu.Unlock()
			if err := follower.Sign(d, time.Now().Unix()); err != nil {
				t.Error(err)
			}
			w.Write(d.Proposal())
		})}
		done := make(chan error)
		ln := c.listen(host(1))
		go func() { done <- slow.Serve(ln) }()
		c.post(0, 1, 2, 3)
		advance(settleMax)
		if d, err := directory.ParseDocument(c.served(0)); err != nil || d.Revision != 1 {
			t.Errorf("revision %d is served after revision 1, %v", d.Revision, err)
		}
		slow.Close()
		<-done
	})
}

func (c *council) served(i int) []byte {
	c.Helper()
	status, b := c.ask(i, http.MethodGet, documentPath, nil)
	if status != http.StatusOK {
		c.Fatalf("%s answers %d", host(i), status)
	}
	return b
}

// want0 checks what the leader serves, whatever ails it.
func (c *council) want0(revision uint32, nodes int) []byte {
	c.Helper()
	b := c.served(0)
	d, err := directory.Verify(b, &c.trust, time.Now().Unix())
	if err != nil || d.Revision != revision || d.Count != nodes {
		c.Errorf("the leader serves %+v, %v; want revision %d with %d nodes", d, err, revision, nodes)
	}
	return b
}

// While the leader is down, the next in order makes the document of each epoch,
// and those of changes within it; clients go on without a gap, and the leader
// takes its place again when it is back.
func TestLeaderDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := standing(t, 3, 2)
		defer c.close()
		client, err := directory.NewKeeper(c.trust, directory.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		accept := func(b []byte) {
			t.Helper()
			if _, err := client.Accept(b, time.Now().Unix()); err != nil {
				t.Errorf("a client: %v", err)
			}
		}
		accept(c.want(present(), 0, 4))
		c.stop(0)
		c.post(4)
		advance(turnMax - 2*time.Second)
		accept(c.want(present(), 0, 4)) // the next waits for its turn
		advance(4 * time.Second)
		accept(c.want(present(), 1+share, 5))
		advance(time.Hour - turnMax - 5*time.Second)
		for range 5 { // no hour is without its document
			epoch := present()
			if client.Newest().Epoch+1 != epoch {
				t.Fatalf("epoch %d after %d", epoch, client.Newest().Epoch)
			}
			if advance(10 * time.Second); c.newest(1).Epoch == epoch {
				t.Error("a follower did not wait for its turn")
			}
			advance(2 * time.Minute)
			accept(c.want(epoch, share, 5))
			advance(time.Hour - 130*time.Second)
		}
		advance(2 * time.Minute)
		accept(c.want(present(), share, 5))
		c.start(0)
		advance(3 * time.Second)
		accept(c.want0(share, 5)) // it serves what was made without it
		c.post(0, 1, 2, 3, 4)
		advance(3 * regather)
		c.post(5)
		advance(3 * time.Second)
		if made := c.newest(0).Revision; made == share || made >= 3*share {
			t.Errorf("the leader that is back made no document: revision %d", made)
		}
		accept(c.want(present(), c.newest(0).Revision, 6))
	})
}

// The control: where half or fewer sign, two could lead at once, therefore
// nobody takes the leader's place. Clients keep the last document for as long
// as it is valid, and no longer.
func TestLeaderDownWithoutSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := standing(t, 4, 2)
		defer c.close()
		client, err := directory.NewKeeper(c.trust, directory.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Accept(c.served(1), time.Now().Unix()); err != nil {
			t.Fatal(err)
		}
		c.stop(0)
		last := client.Newest()
		for range 3 {
			if _, err := client.Accept(c.served(1), time.Now().Unix()); err != nil || client.Newest() != last || client.Current(time.Now().Unix()) == nil {
				t.Errorf("the last document: %v", err)
			}
			advance(time.Hour)
		}
		if err := c.all[1].Err(); !contains(err, "no document of epoch") {
			t.Errorf("a follower without its leader: %v", err)
		}
		advance(directory.ClockGrace)
		if _, err := client.Accept(c.served(1), time.Now().Unix()); !errors.Is(err, directory.ErrExpired) || client.Current(time.Now().Unix()) != nil {
			t.Errorf("beyond its validity: %v", err)
		}
	})
}

// A directory that restarts serves the document that it served before, goes on
// with the numbers of its documents, and asks its nodes for their descriptors
// before it makes one. Without its files it would say two things under one number
// (the control).
func TestNumbersOutliveTheProcess(t *testing.T) {
	for name, forgets := range map[string]bool{"kept": false, "forgotten": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCouncil(t, 1, 1)
				defer c.close()
				client, err := directory.NewKeeper(c.trust, directory.Mark{})
				if err != nil {
					t.Fatal(err)
				}
				c.post(0, 1, 2, 3)
				advance(3 * time.Second)
				first := c.want(present(), 0, 4)
				client.Accept(first, time.Now().Unix())
				c.stop(0)
				if forgets {
					c.dirs[0] = t.TempDir()
				}
				c.start(0)
				if status, b := c.ask(0, http.MethodGet, documentPath, nil); (status == 200 && bytes.Equal(b, first)) == forgets {
					t.Errorf("at once after the restart: %d, %d bytes", status, len(b))
				}
				c.post(0)
				advance(20 * time.Second)
				if early := !bytes.Equal(c.served(0), first); early != forgets {
					t.Errorf("a document of one node out of four: %v", early)
				}
				if forgets {
					if _, err := client.Accept(c.served(0), time.Now().Unix()); !errors.Is(err, directory.ErrConflict) {
						t.Errorf("control: %v", err)
					}
					return
				}
				c.post(1, 2, 3)
				advance(regather)
				if _, err := client.Accept(c.want(present(), 1, 4), time.Now().Unix()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A document that was kept is not served when its time is over, or when it is not
// of this network.
func TestKeptDocumentIsVerified(t *testing.T) {
	for name, spoil := range map[string]func(c *council){
		"as it was":  func(*council) {},
		"expired":    func(*council) { advance(30 * 24 * time.Hour) },
		"one bit":    func(c *council) { c.spoil(0, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) },
		"cut off":    func(c *council) { c.spoil(0, func(b []byte) []byte { return b[:len(b)/2] }) },
		"empty":      func(c *council) { c.spoil(0, func([]byte) []byte { return nil }) },
		"not signed": func(c *council) { c.trust.Threshold = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := standing(t, 2, 1)
				defer c.close()
				c.stop(0)
				c.stop(1)
				spoil(c)
				c.start(0)
				want := http.StatusServiceUnavailable
				if name == "as it was" {
					want = http.StatusOK
				}
				if status, _ := c.ask(0, http.MethodGet, documentPath, nil); status != want {
					t.Errorf("status %d, want %d", status, want)
				}
			})
		})
	}
}

// spoil changes the document that a process keeps: its table and its parts.
func (c *council) spoil(i int, change func([]byte) []byte) {
	c.Helper()
	names, err := filepath.Glob(filepath.Join(c.dirs[i], keptDir, "*_*"))
	if err != nil || len(names) < 2 {
		c.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, append(b[:8:8], change(b[8:])...), 0o600)
		}
		if err != nil {
			c.Fatal(err)
		}
	}
}

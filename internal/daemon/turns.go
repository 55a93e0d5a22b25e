package daemon

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
)

// Whose turn it is to make a document, when, and under which numbers. Each
// authority holds the others to these rules by what it knows itself, so that one
// of them can neither use up the numbers of an epoch, nor have a document made
// for nothing, nor take the place of those before it:
//
//   - A document is due when what this authority would build differs from what is
//     published: since the epoch began, or since it first saw the difference.
//   - The first authority of the network file may make it at once, the one at
//     place i, counted from 0, i turns later.
//   - Each place has numbers of its own above the published document's, the later
//     the higher: who did not make the document in its turn cannot bar those who
//     come after it.
//   - After burst documents of an epoch, each rests for a turn before the next is
//     due.
const (
	// turnMax is how long each authority waits for those before it to make a
	// document: some tries, of a second and more each. In short epochs a turn is a
	// 64th of them.
	turnMax = 30 * time.Second
	// turnSlack is how much earlier than by its own clock an authority lets
	// another begin; half a turn, if that is less.
	turnSlack = 5 * time.Second
	// burst is how many documents of an epoch follow each other at once: nodes
	// that start together, and those that follow.
	burst = 20
	// share is how many revisions a place has above the published one. All places
	// of an epoch of 31 days with a document a turn use less than 2^32.
	share = 1 << 10
	// regather is how long a process signs nothing after a restart, for each
	// directory server that nodes ask in turn: they post again when they find that
	// it has restarted. Until then it would vouch for those nodes only that came
	// first.
	regather = feedPoll + 5*time.Second
)

// place is where an authority stands in the order of the network file.
func place(trust *directory.Trust, public []byte) (i int, ok bool) {
	i = slices.IndexFunc(trust.Authorities, func(key []byte) bool { return string(key) == string(public) })
	return i, i >= 0
}

// proposer is the first place among those that have signed a document.
func (a *Authority) proposer(d *directory.Document) int {
	first := len(a.cfg.Trust.Authorities)
	for _, s := range d.Signatures() {
		for i, key := range a.cfg.Trust.Authorities[:first] {
			if directory.AuthorityID(key) == s.Authority {
				first = i
				break
			}
		}
	}
	return first
}

// turn is how long one authority waits for another.
func (a *Authority) turn() time.Duration {
	return min(turnMax, a.Params().EpochLength/(2*directory.MaxAuthorities))
}

// look compares what we would build with what is published, and notes since when
// they differ. The lock is held.
func (a *Authority) look(epoch uint64, wall int64) error {
	own, err := a.authorities[0].Build(epoch, a.published.Revision)
	switch {
	case err != nil:
		return err
	case own.Mark() == a.published:
		a.since, a.makeErr, a.failures = 0, nil, 0
	case a.since == 0:
		a.since = wall
	}
	return nil
}

// mayMake is why the authority at a place may not make a document of an epoch
// now, or nil. slack is how much too early it may be. The lock is held.
func (a *Authority) mayMake(place int, epoch uint64, wall int64, slack time.Duration) error {
	now, due := at(wall), at(a.since)
	ready := at(a.began) + time.Duration(len(a.cfg.Peers)+1)*regather
	switch {
	case a.restarted && now < ready:
		return fmt.Errorf("directory: restarted; nodes have %v more to post again", ready-now)
	case place > 0 && 2*a.cfg.Threshold <= a.cfg.Total:
		return fmt.Errorf("directory: with a threshold of %d of %d nobody takes the first authority's place", a.cfg.Threshold, a.cfg.Total)
	case epoch > a.published.Epoch:
		// Who has begun within the epoch gives its nodes time to post, too.
		due = at(max(a.Params().Begin(epoch), a.began))
	case epoch < a.published.Epoch || a.since == 0:
		return fmt.Errorf("directory: nothing has changed since epoch %d revision %d", a.published.Epoch, a.published.Revision)
	default:
		due = max(due, a.rested-burst*a.turn())
	}
	if early := due + time.Duration(place)*a.turn() - slack - now; early > 0 {
		return fmt.Errorf("directory: the turn of place %d begins in %v", place, early)
	}
	return nil
}

// at is a second since 1970 as a duration, to reckon with fractions of seconds.
func at(wall int64) time.Duration { return time.Duration(wall) * time.Second }

// numbers returns the first revision that the authority at a place may use, and
// the first after them. The lock is held.
func (a *Authority) numbers(place int, epoch uint64) (first, end uint64) {
	if epoch == a.published.Epoch {
		first = uint64(a.published.Revision) + 1
	}
	first += uint64(place) * share
	return first, min(first+share, math.MaxUint32+1)
}

// mayPropose is why another process's document is not to be signed, whatever it
// holds, or nil. The lock is held.
func (a *Authority) mayPropose(d *directory.Document, wall int64) error {
	slack := min(turnSlack, a.turn()/2)
	epoch := a.epochAt(wall)
	if d.Epoch != epoch && d.Epoch != a.epochAt(wall+int64(slack/time.Second)) {
		return fmt.Errorf("directory: epoch %d is not the present one, which is %d", d.Epoch, epoch)
	}
	if err := a.look(d.Epoch, wall); err != nil {
		return err
	}
	place := a.proposer(d)
	if err := a.mayMake(place, d.Epoch, wall, slack); err != nil {
		return err
	}
	if first, end := a.numbers(place, d.Epoch); uint64(d.Revision) < first || uint64(d.Revision) >= end {
		return fmt.Errorf("directory: revision %d is not one of place %d: %d to %d", d.Revision, place, first, end-1)
	}
	return nil
}

package daemon

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/directory"
)

// How a network comes to know how its nodes are (docs/protocol.md, section 7.9):
//
//  1. Each node posts a report to every directory process, each round (report.go).
//  2. takeReport, there: it is verified and goes to the observer.
//  3. sayRound: each round the process makes a bulletin for each of its keys.
//  4. gatherBulletins: it fetches those of the other processes.
//  5. Its noticeboard hands out all, to clients and to replicas, which hand them on
//     (noticeboard.go); clients combine them (conditions.go).
//
// The same bulletins carry the authorities' proposals of cover plans (cover.go).

const reportPath = "/nyx/v1/report"

// crier is the part of a directory process that deals in bulletins.
type crier struct {
	noticeboard
	observer *directory.Observer
	planner  *control.Planner
	view     *directory.View // of what is published; nil: nothing yet
	regions  []string        // of its exits
	round    uint64          // the last that was spoken of
	word     []byte          // of the operator, the last that was seen
	told     delays          // in the last
}

func newCrier(cfg *AuthorityConfig) (*crier, error) {
	board, err := directory.NewBoard(cfg.Trust)
	if err != nil {
		return nil, err
	}
	c := &crier{noticeboard: noticeboard{board: board}, observer: directory.NewObserver(cfg.Network), planner: control.NewPlanner(board.Seats())}
	c.bind()
	return c, nil
}

// cry makes and gathers bulletins until ctx ends.
func (a *Authority) cry(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.sayRound(time.Now().Unix()); err != nil {
			a.log.Warn("no bulletin", "why", err)
		}
		if i%int(bulletinPoll/time.Second) == 0 {
			a.gatherBulletins(ctx)
		}
		if i%int(ratesAsked/time.Second) == 0 {
			a.askRates(ctx)
		}
	}
}

// sayRound makes the bulletins of the round of wall, once.
func (a *Authority) sayRound(wall int64) error {
	a.crier.mu.Lock()
	defer a.crier.mu.Unlock()
	round := directory.RoundAt(wall)
	if a.crier.view == nil || round <= a.crier.round {
		return nil
	}
	a.crier.round = round
	a.heed()
	a.crier.plan(wall, a.log)
	b := a.crier.observer.Bulletin(a.crier.view, wall)
	a.crier.told.set(b.Delays)
	b.Plan = a.crier.planner.Proposal()
	if a.cfg.bend != nil {
		a.cfg.bend(b)
	}
	for _, s := range a.cfg.Signers {
		signed, err := directory.SignBulletin(s, b)
		if err == nil {
			_, err = a.crier.board.Accept(signed)
		}
		if err != nil {
			return err
		}
	}
	a.crier.bind()
	return nil
}

// gatherBulletins takes over what other processes hand out. That one does not answer
// costs nothing but its bulletins.
func (a *Authority) gatherBulletins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, bulletinPoll)
	defer cancel()
	var asked sync.WaitGroup
	for _, url := range a.cfg.Peers {
		asked.Go(func() {
			bulletins, err := sharedBulletins(ctx, a.client, url)
			if err != nil {
				a.log.Debug("no bulletins", "why", err)
				return
			}
			a.crier.mu.Lock()
			defer a.crier.mu.Unlock()
			for _, b := range bulletins {
				if _, err := a.crier.board.Accept(b); err != nil {
					a.log.Debug("bulletin not taken", "why", err)
				}
			}
			a.crier.bind()
		})
	}
	asked.Wait()
}

// observe has bulletins speak of the nodes of a document from now on.
func (a *Authority) observe(d *directory.Document) {
	v, err := directory.NewView(d)
	if err != nil {
		a.log.Warn("no bulletins on the document", "why", err)
		return
	}
	a.crier.mu.Lock()
	defer a.crier.mu.Unlock()
	a.crier.view, a.crier.regions = v, nil
	for _, n := range d.Nodes {
		if n.Roles.Has(directory.RoleExit) && !slices.Contains(a.crier.regions, n.Region) {
			a.crier.regions = append(a.crier.regions, n.Region)
		}
	}
}

func (a *Authority) takeReport(w http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(w, r, "report", directory.MaxReportSize)
	if !ok {
		return
	}
	wall := time.Now().Unix()
	a.mu.Lock()
	report, err := a.authorities[0].TakeReport(b, wall)
	a.mu.Unlock()
	if err == nil {
		a.crier.mu.Lock()
		err = a.crier.hear(report, wall)
		a.crier.mu.Unlock()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

// hear takes a verified report. The lock is held.
func (c *crier) hear(r *directory.Report, wall int64) error {
	if err := c.observer.Hear(r, wall); err != nil {
		return err
	}
	if r.Cover != nil && c.view != nil {
		if n, ok := c.view.Node(r.Node); ok {
			c.planner.Hear(wall, r.Node, n.Region, n.Capacity, r.Cover)
		}
	}
	return nil
}

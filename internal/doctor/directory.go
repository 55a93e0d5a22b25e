package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
)

const (
	// askedMax bounds the wait for one server.
	askedMax = 10 * time.Second
	// clockTold is from which difference a clock is told to be off: documents bear an
	// hour (directory.ClockGrace), and a clock that anybody sets is within seconds.
	clockTold = 2 * time.Minute
)

// answer is what became of asking one server of the directory.
type answer struct {
	server mirror.Server
	err    error // it does not answer
	status int
	// ahead is how far its clock is ahead of ours.
	ahead time.Duration
	body  []byte

	table *directory.Document // nil: none that holds
	wrong error
}

// directory asks all servers of the directory, and reports whether one of them has a
// document that holds, by a clock that is not far off.
func (e *examination) directory(ctx context.Context, trust *directory.Trust, urls []string) bool {
	e.look(counted(len(urls), "server of the directory", "servers of the directory"))
	answers := e.ask(ctx, urls)
	var heard, silent []*answer
	for _, a := range answers {
		if a.err != nil {
			silent = append(silent, a)
		} else {
			heard = append(heard, a)
		}
	}
	if len(heard) == 0 {
		why := "the network file names none"
		if len(silent) > 0 {
			why = silent[0].err.Error()
		}
		e.found(DirectoryUnreachable, Fault, fmt.Sprintf("none of %d servers of the directory answers: %s", len(urls), why),
			"see whether this machine is connected, and whether a firewall keeps it from these addresses; if others reach them, ask for a network file with more replicas")
		return false
	}
	if len(silent) > 0 {
		e.found(DirectoryPartly, Fault, fmt.Sprintf("%d of %d servers of the directory do not answer: %s", len(silent), len(urls), names(silent)),
			"nothing at once, the others serve; tell their operators")
	}
	ahead, inTime := e.clock(heard)
	return e.documents(trust, heard, e.Now().Add(ahead).Unix()) && inTime
}

func (e *examination) ask(ctx context.Context, urls []string) []*answer {
	answers := make([]*answer, len(urls))
	var asking sync.WaitGroup
	for i, u := range urls {
		answers[i] = &answer{}
		asking.Go(func() { answers[i].get(ctx, u, e.Now) })
	}
	asking.Wait()
	return answers
}

func (a *answer) get(ctx context.Context, url string, now func() time.Time) {
	var clients []*http.Client
	if a.server, a.err = mirror.ParseServer(url); a.err == nil {
		clients, a.err = mirror.Clients([]mirror.Server{a.server})
	}
	if a.err != nil {
		return
	}
	defer clients[0].CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, askedMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server.URL+mirror.TablePath, nil)
	if err != nil {
		a.err = err
		return
	}
	resp, err := clients[0].Do(req)
	if err != nil {
		a.err = err
		return
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if theirs, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.ahead = theirs.Sub(now())
	}
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, directory.MaxTableSize))
}

// clock compares this machine's clock with those of servers. It returns how far that in
// their middle is ahead, and whether the directory can be used by this machine's.
func (e *examination) clock(heard []*answer) (ahead time.Duration, inTime bool) {
	e.look("the clock")
	var all []time.Duration
	for _, a := range heard {
		all = append(all, a.ahead)
	}
	slices.Sort(all)
	ahead = all[(len(all)-1)/2]
	var other []*answer
	for _, a := range heard {
		if (a.ahead - ahead).Abs() >= clockTold {
			other = append(other, a)
		}
	}
	if len(other) > 0 {
		e.found(ClockDisputed, Either, fmt.Sprintf("the clocks of %d of %d servers of the directory are not those of the others: %s", len(other), len(heard), names(other)),
			"nothing at once; tell their operators, or stop asking servers that nobody answers for")
	}
	if ahead.Abs() < clockTold {
		return ahead, true
	}
	where, price := "behind", "what is signed for a time is refused beyond an hour"
	if ahead < 0 {
		where = "ahead of"
	}
	if inTime = ahead.Abs() < directory.ClockGrace; !inTime {
		price = "documents of the directory are refused by it"
	}
	e.found(ClockOff, Misconfiguration, fmt.Sprintf("this machine's clock, %s, is %v %s that of the directory's servers; %s",
		e.Now().UTC().Format("2006-01-02 15:04:05 UTC"), ahead.Abs().Round(time.Second), where, price), "set the clock, and have it kept by NTP; if the clock is right, the servers' are not: do not trust them")
	return ahead, inTime
}

// documents verifies what servers have handed out, by the clock in their middle.
func (e *examination) documents(trust *directory.Trust, heard []*answer, wall int64) (ok bool) {
	var empty, old, foreign, good []*answer
	for _, a := range heard {
		switch {
		case a.status == http.StatusServiceUnavailable:
			empty = append(empty, a)
			continue
		case a.status != http.StatusOK:
			a.wrong = fmt.Errorf("it answers %d to who asks for a document", a.status)
		default:
			a.table, a.wrong = directory.VerifyTable(a.body, trust, wall)
		}
		switch {
		case a.wrong == nil:
			good = append(good, a)
		case errors.Is(a.wrong, directory.ErrExpired), errors.Is(a.wrong, directory.ErrNotYetValid):
			old = append(old, a)
		default:
			foreign = append(foreign, a)
		}
	}
	switch {
	case len(foreign) > 0 && len(foreign) == len(heard):
		e.found(NetworkWrong, Either, fmt.Sprintf("no server of the directory has what the authorities of the network file have signed: %v", foreign[0].wrong),
			"get the network file again from whom you trust; if it is right, somebody answers in the place of the directory: do not use this network from here")
	case len(foreign) > 0:
		e.found(DirectoryForged, Attack, fmt.Sprintf("%d of %d servers of the directory hand out what its authorities have not signed: %s: %v", len(foreign), len(heard), names(foreign), foreign[0].wrong),
			"nothing at once, such answers are refused; tell the network's operators")
	}
	if len(empty) > 0 && len(good) == 0 {
		e.found(DirectoryEmpty, Fault, fmt.Sprintf("%s has no document yet", names(empty)), "wait a moment; if it stays so, fewer authorities run than must sign, or no nodes: see nyx status where they run")
	}
	if len(old) > 0 && len(good) == 0 {
		e.found(DirectoryStale, Fault, fmt.Sprintf("the directory has an old document only: %v", old[0].wrong), "tell the network's operators: fewer of its authorities run than must sign")
	}
	for i, a := range good {
		for _, b := range good[:i] {
			if a.table.Mark().Conflicts(b.table.Mark()) {
				e.found(DirectoryFork, Attack, fmt.Sprintf("%s and %s have two documents of epoch %d, revision %d, both signed by enough authorities", a.server.URL, b.server.URL, a.table.Epoch, a.table.Revision),
					"do not use the network until its operators have told why; nyx directory verify checks the evidence that nodes keep")
				return false
			}
		}
	}
	return len(good) > 0
}

func names(of []*answer) string {
	var out []string
	for _, a := range of {
		out = append(out, a.server.URL)
	}
	return strings.Join(out, ", ")
}

package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/prng"
)

// Asker gets things from several servers: from one at a time, unless it is late;
// each answer is checked before it counts, and what was wrong is reported with its
// code. It is safe for concurrent use.
type Asker struct {
	servers []Server
	clients []*http.Client
	log     *slog.Logger
	begun   time.Time

	mu     sync.Mutex
	core   *query.Servers
	ended  [2]uint64 // look-ups that failed, that succeeded
	stale  int       // of the newest document: what stands in for what could not be had
	behind bool      // the newest document itself is of an epoch that has passed
}

// NewAsker returns an asker of servers, replicas and others in any order, at most
// query.ServersMax. clients are those of the servers, in their order.
func NewAsker(servers []Server, clients []*http.Client, draw *prng.Stream, log *slog.Logger) *Asker {
	a := &Asker{log: log, begun: time.Now()}
	for _, replica := range []bool{true, false} {
		for i, s := range servers {
			if s.Replica == replica {
				a.servers, a.clients = append(a.servers, s), append(a.clients, clients[i])
			}
		}
	}
	replicas := 0
	for _, s := range servers {
		if s.Replica {
			replicas++
		}
	}
	a.core = query.New(replicas, len(servers)-replicas, draw)
	return a
}

// Close lets connections go that nobody uses.
func (a *Asker) Close() {
	for _, c := range a.clients {
		c.CloseIdleConnections()
	}
}

// Answer is what a server said.
type Answer struct {
	// Body is nil if the server has nothing newer than what If-None-Match named.
	Body []byte
	Tag  string
	// Server is who it was, for logs.
	Server string
}

// Question is what to ask.
type Question struct {
	Path string
	// Tag is what is had already: its ETag, or "".
	Tag string
	// Most bounds the answer, in bytes.
	Most int64
	// Due says that what is asked for is of a document that everybody must have: who
	// says that it is not there yet withholds it.
	Due bool
	// Take checks an answer and keeps it. Its error is that of the server, which
	// is reported and left aside; another is asked. It is called by one goroutine.
	Take func(Answer) error
}

// errOld is a server that is behind.
var errOld = fmt.Errorf("%w: the server is an epoch behind", directory.ErrExpired)

// errNotYet is a server that has not heard of a document yet, or of its place in the
// logs.
var errNotYet = errors.New("directory: the server has not that document yet")

// statusError is an answer other than 200 and 304.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

// reply is what became of one request.
type reply struct {
	server int
	answer Answer
	took   time.Duration
	err    error
}

// Ask asks until an answer is taken, or everybody was asked often enough. The
// error says what was wrong with each.
func (a *Asker) Ask(ctx context.Context, q *Question) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies := make(chan reply)
	late := time.NewTimer(0)
	defer late.Stop()
	<-late.C
	var look query.Lookup
	var errs []error
	asked, waiting := -1, map[int]bool{}
	more := true
	next := func() {
		var patience time.Duration
		if asked, patience, more = a.next(&look); more {
			waiting[asked] = true
			late.Reset(patience)
			go a.send(ctx, asked, q, replies)
		}
	}
	for next(); more || len(waiting) > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			a.fault(asked, query.Timeout, nil)
			next()
		case got := <-replies:
			delete(waiting, got.server)
			err := got.err
			if err == nil {
				err = q.Take(got.answer)
			}
			if err == nil {
				a.answered(got.server, got.took)
				return nil
			}
			errs = append(errs, fmt.Errorf("directory %s: %w", a.servers[got.server].URL, err))
			a.fault(got.server, reasonOf(err), err)
			look.Failed(got.server)
			if got.server == asked && more {
				late.Stop()
				next()
			}
		}
	}
	a.mu.Lock()
	a.ended[0]++
	a.mu.Unlock()
	return errors.Join(errs...)
}

func (a *Asker) next(look *query.Lookup) (int, time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.core.Next(a.now(), look)
}

func (a *Asker) now() machine.Time { return machine.Time(time.Since(a.begun)) }

func (a *Asker) answered(i int, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended[1]++
	a.core.Answered(i, took)
}

// fault reports what was wrong with a server: in the log, once until it is forgiven.
func (a *Asker) fault(i int, r query.Reason, err error) {
	a.mu.Lock()
	was := a.core.LeftAside(a.now(), i)
	a.core.Fault(a.now(), i, r)
	aside := a.core.LeftAside(a.now(), i)
	a.mu.Unlock()
	if aside && !was && r >= query.Withheld {
		a.log.Warn("a directory server is left aside", "server", a.servers[i].URL, "reason", r.String(), "why", err)
	}
}

func reasonOf(err error) query.Reason {
	var status statusError
	switch {
	case errors.Is(err, directory.ErrRollback), errors.Is(err, directory.ErrExpired), errors.Is(err, directory.ErrNotYetValid):
		return query.Old
	case errors.Is(err, errNotYet):
		return query.NotYet
	case errors.Is(err, translog.ErrInconsistent), errors.Is(err, translog.ErrSignature), errors.Is(err, translog.ErrMalformed):
		return query.Forged
	case errors.Is(err, translog.ErrNotLogged):
		return query.Withheld
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return query.Withheld
	case errors.As(err, &status):
		return query.Unreachable
	}
	for _, forged := range []error{directory.ErrMalformed, directory.ErrSize, directory.ErrSignature, directory.ErrThreshold, directory.ErrNetwork, directory.ErrConflict, directory.ErrProof} {
		if errors.Is(err, forged) {
			return query.Forged
		}
	}
	return query.Unreachable
}

// send asks one server. The time that counts is that to the beginning of the
// answer: what follows depends on its size.
func (a *Asker) send(ctx context.Context, i int, q *Question, replies chan<- reply) {
	r := reply{server: i}
	begun := time.Now()
	r.answer, r.took, r.err = a.get(ctx, i, q, begun)
	select {
	case replies <- r:
	case <-ctx.Done():
	}
}

func (a *Asker) get(ctx context.Context, i int, q *Question, begun time.Time) (answer Answer, took time.Duration, err error) {
	answer.Server = a.servers[i].URL
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.servers[i].URL+q.Path, nil)
	if err != nil {
		return answer, 0, err
	}
	if q.Tag != "" {
		req.Header.Set("If-None-Match", q.Tag)
	}
	resp, err := a.clients[i].Do(req)
	if err != nil {
		return answer, 0, err
	}
	defer resp.Body.Close()
	took = time.Since(begun)
	answer.Tag = resp.Header.Get("ETag")
	switch resp.StatusCode {
	case http.StatusNotModified:
		if q.Tag == "" {
			return answer, took, statusError{resp.StatusCode, "it answers " + resp.Status}
		}
		return answer, took, nil
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return answer, took, statusError{resp.StatusCode, "nothing to hand out yet; it waits for its nodes"}
	case StatusNotYet:
		if q.Due {
			return answer, took, statusError{http.StatusNotFound, "it says that it has not a document yet that it must have had for long"}
		}
		return answer, took, errNotYet
	default:
		return answer, took, statusError{resp.StatusCode, "it answers " + resp.Status}
	}
	answer.Body, err = io.ReadAll(io.LimitReader(resp.Body, q.Most+1))
	if err == nil && int64(len(answer.Body)) > q.Most {
		err = fmt.Errorf("%w: more than %d bytes", directory.ErrSize, q.Most)
	}
	if err == nil && answer.Body == nil {
		answer.Body = []byte{}
	}
	return answer, took, err
}

// Stats is what an asker has seen.
type Stats struct {
	query.Stats
	// Found and Missed are look-ups that ended well and that did not.
	Found, Missed uint64
	// Stale is how many buckets of an older document are in use, and Behind says
	// that the newest document that could be had is of an epoch that has passed.
	Stale  int
	Behind bool
}

// Stats returns them.
func (a *Asker) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Stats{Stats: a.core.Stats, Found: a.ended[1], Missed: a.ended[0], Stale: a.stale, Behind: a.behind}
}

package lab

import (
	"bytes"
	"context"
	stdsql "database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/engine/opa"
	"github.com/nyxnet/nyx/internal/engine/sql"
	"github.com/nyxnet/nyx/internal/governance"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// auditQueries is SCL-010: queries with several filters of the governance API at regular
// times, whether earlier ones are done or not. Each is decided by the policy, recorded in
// the log that it reads, and answered when the index has what the log had. In the control
// the index has no secondary indexes.
func auditQueries(r *Run) error {
	l, err := r.newAuditLog()
	if err != nil {
		return err
	}
	defer l.remove()
	events := r.Scaled("events")
	if err := l.record(events); err != nil {
		return err
	}
	r.Progress("%d events recorded", events)
	g, err := r.govern(l)
	if err != nil {
		return err
	}
	defer g.close()
	// The first query waits until the index is where the log is, and is not counted.
	for behind := true; behind; {
		_, err := g.index.Query(context.Background(), sql.Query{Limit: 1})
		if behind = err != nil; behind {
			r.Progress("the index is built: %v", err)
		}
	}
	explaining, err := sql.Of(context.Background(), filepath.Join(l.dir, "index.db"), g.log) // before indexes go: it would make them
	if err != nil {
		return err
	}
	defer explaining.Close()
	queries := int(r.Param("queries"))
	if !r.Protected {
		queries = int(r.Param("control_queries"))
		if err := dropIndexes(context.Background(), filepath.Join(l.dir, "index.db")); err != nil {
			return err
		}
	}
	draw := r.Source("queries").Stream("filters")
	span := time.Duration(events) * auditGap
	gap := time.Duration(float64(time.Minute) / r.Param("queries_per_minute"))
	took, failed, found := make([]time.Duration, queries), atomic.Int64{}, atomic.Int64{}
	var asking sync.WaitGroup
	begun := time.Now()
	for i := range queries {
		from := auditBegin.Add(time.Duration(draw.Uint64N(uint64(span))))
		f := audit.Filter{Actor: fmt.Sprintf("operator-%d", draw.IntN(7)), Kind: audit.ConfigChange, Severity: audit.Notice, From: from, To: from.Add(24 * time.Hour)}
		plan, err := explaining.Explain(context.Background(), sql.Query{Filter: f, Newest: i%2 == 0, Limit: pageOf})
		if err != nil {
			return err
		}
		r.Trial("plan_uses_index", strings.Contains(plan, "USING INDEX audit_events_"))
		request := g.request(i%int(r.Param("auditors")), &f, i%2 == 0)
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		asking.Go(func() {
			n, err := g.ask(request)
			if err != nil {
				failed.Add(1)
			}
			found.Add(int64(n))
			took[i] = time.Since(due) // with what the generator is late
		})
	}
	asking.Wait()
	for _, d := range took {
		r.ObserveTime("db_query_latency_p95", d)
	}
	r.Tally("query_failed", uint64(failed.Load()), uint64(queries))
	index := g.index.Figures()
	r.ObserveTime("told_by_index", time.Duration(index.Asked.Quantile(0.95))*time.Microsecond)
	r.Note("%d queries of actor, kind, severity and a day, %v a minute, of the governance API over %d events in SQLite; %d found; told_by_index is db_query_latency_p95 as the index counts and exports it, and with waiting for the log it is %d ms", queries, r.Param("queries_per_minute"), events, found.Load(), index.Waited.Quantile(0.95)/1000)
	return nil
}

// pageOf is how many events are asked for.
const pageOf = 50

// governedLog is the governance API of a log, as a control process has it, but over
// plain HTTP on this machine.
type governedLog struct {
	index  *sql.Follower
	rego   *governance.Rego
	api    *governance.API
	server *http.Server
	client *http.Client
	url    string
	log    string   // its name
	key    seal.Key // of bearers
	draw   *prng.Stream
}

// followed is a log as a follower reads it.
type followed struct {
	*ledger.Log
	*ledger.Store
}

// govern starts the index and the API of a log.
func (r *Run) govern(l *auditLog) (g *governedLog, err error) {
	g = &governedLog{key: seal.Key{10}, draw: r.Source("bearers").Stream("draw")}
	source, key, entropy := &followed{l.Log, l.Store()}, l.Key(), r.Source("governance").Stream("ids")
	var drawing sync.Mutex
	g.log = key.ID()
	g.index = sql.Follow(sql.FollowConfig{Where: filepath.Join(l.dir, "index.db"), Name: g.log, Source: source})
	if g.rego, err = governance.StartRego(opa.Config{}, r.Source("policy"), slog.New(slog.DiscardHandler)); err != nil {
		g.index.Close()
		return nil, err
	}
	g.api, err = governance.New(governance.Config{
		Log: &governance.Compliance{Store: l.Store(), Index: g.index, Key: &key}, Recorder: l, Node: "control-1", Decider: g.rego, Key: &g.key,
		Entropy: func(b []byte) { drawing.Lock(); defer drawing.Unlock(); entropy.Read(b) },
	})
	var ln net.Listener
	if err == nil {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		g.rego.Close()
		g.index.Close()
		return nil, err
	}
	g.url = "http://" + ln.Addr().String() + governance.Prefix
	g.server, g.client = &http.Server{Handler: g.api, ReadHeaderTimeout: time.Minute}, &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	go g.server.Serve(ln)
	return g, nil
}

func (g *governedLog) close() {
	g.client.CloseIdleConnections()
	g.server.Close()
	g.api.Close()
	g.rego.Close()
	g.index.Close()
}

// request asks for a page in the name of one of many auditors, each of whom may ask ten
// times a minute.
func (g *governedLog) request(auditor int, f *audit.Filter, newest bool) *http.Request {
	q := governance.FilterValues(f)
	q.Set("limit", strconv.Itoa(pageOf))
	if newest {
		q.Set("order", "newest")
	}
	r, err := http.NewRequest(http.MethodGet, g.url+"audit-events?"+q.Encode(), nil)
	if err != nil {
		panic("lab: a URL of our own: " + err.Error())
	}
	var drawn [16]byte
	g.draw.Read(drawn[:])
	who := governance.Subject{Name: fmt.Sprintf("auditor-%d", auditor), Role: governance.Auditor, Clearance: audit.SensitivityMax}
	r.Header.Set("Authorization", "Bearer "+governance.NewBearer(&g.key, &who, time.Now(), drawn))
	return r
}

// ask sends a request and returns how many events came.
func (g *governedLog) ask(r *http.Request) (events int, err error) {
	answer, err := g.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the API answers %s: %s", answer.Status, b)
	}
	return bytes.Count(b, []byte("\n{")), err
}

func dropIndexes(ctx context.Context, path string) error {
	db, err := stdsql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, of := range []string{"time", "actor", "subject", "kind", "severe"} {
		if _, err := db.ExecContext(ctx, "DROP INDEX audit_events_"+of); err != nil {
			return err
		}
	}
	return nil
}

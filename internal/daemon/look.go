package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/trace"
)

// newAsker returns an asker of replicas, and of authorities where those do not
// serve. client, if not nil, is for tests and asks all of them.
func newAsker(replicas, authorities []string, client *http.Client, draw *prng.Stream, log *slog.Logger) (*mirror.Asker, error) {
	var servers []mirror.Server
	var clients []*http.Client
	for _, url := range append(append([]string{}, replicas...), authorities...) {
		s, err := mirror.ParseServer(url)
		if err != nil {
			return nil, fmt.Errorf("directory %s: %w", url, err)
		}
		servers = append(servers, s)
		if client != nil {
			clients = append(clients, client)
		}
	}
	if client == nil {
		var err error
		if clients, err = mirror.Clients(servers); err != nil {
			return nil, err
		}
	}
	return mirror.NewAsker(servers, clients, draw, logOrNone(log)), nil
}

// read has the feed get documents by an asker, of which a client of a big network
// takes the part that the sample chooses; nil: the whole.
func (f *feed) read(a *mirror.Asker, sample *directory.Sample) {
	f.reader = &mirror.Reader{Asker: a, Keeper: f.keeper, Sample: sample}
}

// demand has documents that come now proven to be in a log, by what can be asked.
func (f *feed) demand(ctx context.Context, of func(*directory.Document) asks) {
	f.keeper.Demand(func(d *directory.Document) error { return f.logged.check(ctx, of(d), d) })
}

// look asks for a newer document: the i-th server, or those that the reader
// chooses. A node looks at an authority too, to see whether that has restarted.
func (f *feed) look(ctx context.Context, i int) error {
	if f.reader == nil {
		return f.fetch(ctx, f.urls[i%len(f.urls)])
	}
	f.demand(ctx, func(d *directory.Document) asks {
		due := mirror.Due(d, time.Now().Unix())
		return func(ctx context.Context, path string, most int64, take func([]byte) error) error {
			return f.reader.Asker.Ask(ctx, &mirror.Question{Path: path, Most: most, Due: due, Take: func(a mirror.Answer) error { return take(a.Body) }})
		}
	})
	v, err := f.reader.Look(ctx, time.Now().Unix())
	if err != nil {
		return err
	}
	if v != nil {
		f.tag = `"` + mirror.Name(v.Document()) + `"`
		f.deliver(v)
		if err := f.keepMark(); err != nil {
			return err
		}
	}
	if f.restarted != nil {
		if err := f.fetch(ctx, f.urls[i%len(f.urls)]); err != nil && f.tag == "" {
			return err
		}
	}
	return f.reader.Asker.Lacking()
}

func (a *Authority) part() part {
	p := newPart("authority", trace.Counts{}, a.Err())
	p.shelf, p.door, p.logs, p.delays, p.cover = &a.shelf, &a.door, a.logFigures(), a.crier.told.get(), a.crier.cover()
	return p
}

// writeDirectory writes what those who ask for the directory have seen, and in
// what time those who serve it have found it.
func writeDirectory(to *metric.Page, parts []part) {
	for i := range parts {
		p := &parts[i]
		if p.asker != nil {
			s := p.asker.Stats()
			ratio(to, "directory_query_success_ratio", p, s.Answers, s.Queries)
			to.Add("directory_timeout_events", float64(s.Faults[query.Timeout]), "part", p.Name)
			for r, n := range s.Faults {
				to.Add("directory_server_faults_total", float64(n), "part", p.Name, "reason", query.Reason(r).String())
			}
			to.Add("directory_stale_buckets", float64(s.Stale), "part", p.Name)
		}
		if p.shelf != nil {
			v := p.shelf.Lookups()
			to.Distribute("directory_lookup_latency", metric.Times(&v), "part", p.Name)
			if p.shelf.Cache != nil {
				hits, misses, faults, skipped := p.shelf.Cache.Counts()
				for j, n := range []uint64{hits, misses, faults, skipped} {
					to.Add("directory_cache_total", float64(n), "part", p.Name, "outcome", [...]string{"hit", "miss", "fault", "skipped"}[j])
				}
				to.Add("directory_cache_total", float64(p.shelf.Spoiled()), "part", p.Name, "outcome", "spoiled")
			}
		}
		if p.door != nil {
			p.door.write(to, p.Name)
		}
		if p.rebuilt != 0 {
			to.Add("directory_rebuild_duration", p.rebuilt.Seconds(), "part", p.Name)
		}
	}
}

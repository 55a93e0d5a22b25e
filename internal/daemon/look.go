package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
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
func (f *feed) demand(ctx context.Context, of asks) {
	f.keeper.Demand(func(d *directory.Document) error { return f.logged.check(ctx, of, d) })
}

// look asks for a newer document: the i-th server, or those that the reader
// chooses. A node looks at an authority too, to see whether that has restarted.
func (f *feed) look(ctx context.Context, i int) error {
	if f.reader == nil {
		return f.fetch(ctx, f.urls[i%len(f.urls)])
	}
	f.demand(ctx, func(ctx context.Context, path string, most int64, take func([]byte) error) error {
		return f.reader.Asker.Ask(ctx, &mirror.Question{Path: path, Most: most, Take: func(a mirror.Answer) error { return take(a.Body) }})
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
	p.shelf, p.logs, p.delays, p.cover = &a.shelf, a.logFigures(), a.crier.told.get(), a.crier.cover()
	return p
}

// writeDirectory writes what those who ask for the directory have seen, and in
// what time those who serve it have found it.
func writeDirectory(w io.Writer, parts []part) {
	counter := func(name, help string, of func(*mirror.Stats) uint64) {
		h := family(w, name, "counter", help)
		for i := range parts {
			if a := parts[i].asker; a != nil {
				s := a.Stats()
				h("{part=%q} %d", parts[i].Name, of(&s))
			}
		}
	}
	ratio := family(w, "directory_query_success_ratio", "gauge", "Share of the directory's answers among the queries to its servers.")
	for i := range parts {
		if a := parts[i].asker; a != nil {
			if s := a.Stats(); s.Queries > 0 {
				ratio("{part=%q} %g", parts[i].Name, float64(s.Answers)/float64(s.Queries))
			}
		}
	}
	counter("directory_timeout_events", "Queries to a directory server that were not answered in the time that its answers take.", func(s *mirror.Stats) uint64 { return s.Faults[query.Timeout] })
	faults := family(w, "directory_server_faults_total", "counter", "What was wrong with directory servers, by reason code.")
	stale := family(w, "directory_stale_buckets", "gauge", "Buckets of the directory that could not be had; signed ones of an earlier document stand in.")
	for i := range parts {
		if a := parts[i].asker; a != nil {
			s := a.Stats()
			for r, n := range s.Faults {
				faults("{part=%q,reason=%q} %d", parts[i].Name, query.Reason(r).String(), n)
			}
			stale("{part=%q} %d", parts[i].Name, s.Stale)
		}
	}
	cached := family(w, "directory_cache_total", "counter", "Buckets that a replica's cache had and had not, calls of its server that failed, and those for which the server was left alone.")
	for i := range parts {
		if s := parts[i].shelf; s != nil && s.Cache != nil {
			hits, misses, faults, skipped := s.Cache.Counts()
			for j, n := range []uint64{hits, misses, faults, skipped} {
				cached("{part=%q,outcome=%q} %d", parts[i].Name, [...]string{"hit", "miss", "fault", "skipped"}[j], n)
			}
		}
	}
	lookups := family(w, "directory_lookup_latency", "histogram", "Seconds in which a server of the directory found a bucket.")
	rebuilt := family(w, "directory_rebuild_duration", "gauge", "Seconds in which the replica had its documents again after its start.")
	for i := range parts {
		if s := parts[i].shelf; s != nil {
			v := s.Lookups()
			times(lookups, parts[i].Name, "", &v)
		}
		if d := parts[i].rebuilt; d != 0 {
			rebuilt("{part=%q} %g", parts[i].Name, d.Seconds())
		}
	}
}

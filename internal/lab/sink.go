package lab

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// sink is to whom a Collector passes things on by OTLP over HTTP. It refuses some
// requests, as a server does that has no room, and hands the others to the real server
// behind it, or is the end itself and counts what is in them.
type sink struct {
	*httptest.Server
	points, items     atomic.Uint64 // of metrics; spans and lines
	requests, refused atomic.Uint64
	oneIn             uint64
	behind            http.Handler
}

// newSink starts one that refuses one request in so many, 0 being none.
func newSink(oneIn int, behind http.Handler) *sink {
	s := &sink{oneIn: uint64(oneIn), behind: behind}
	s.Server = httptest.NewServer(s)
	return s
}

// refuseSome starts one before a real server.
func refuseSome(server string, oneIn int) (*sink, error) {
	to, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	to.Path = "" // a request comes with the whole path
	return newSink(oneIn, httputil.NewSingleHostReverseProxy(to)), nil
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	n := s.requests.Add(1)
	switch {
	case s.oneIn > 0 && n%s.oneIn == s.oneIn/2: // some of the first ones too
		s.refused.Add(1)
		http.Error(w, "no room", http.StatusServiceUnavailable)
	case s.behind != nil:
		s.behind.ServeHTTP(w, q)
	default:
		s.take(w, q)
	}
}

// take counts what a request holds.
func (s *sink) take(w http.ResponseWriter, q *http.Request) {
	in := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in = z
	}
	b, err := io.ReadAll(in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	count, to := otlpItems, &s.items
	if strings.HasSuffix(q.URL.Path, "/v1/metrics") {
		count, to = otlpCount, &s.points
	}
	n, err := count(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	to.Add(n)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

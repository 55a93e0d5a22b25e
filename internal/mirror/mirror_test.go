package mirror

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
)

func TestSnapshotBringsTheDocumentBack(t *testing.T) {
	w := newWorld(t)
	dir, d := filepath.Join(t.TempDir(), "snapshot"), w.document(testEpoch, 0, 2000, 0)
	if got, err := Rebuild(dir, &w.trust, testWall); got != nil || err != nil {
		t.Errorf("where there is none: %v", err)
	}
	if err := Save(dir, d); err != nil {
		t.Fatal(err)
	}
	got, err := Rebuild(dir, &w.trust, testWall)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), d.Encode()) {
		t.Error("another document")
	}
	if _, err := Rebuild(dir, &w.trust, testWall+100*3600); err == nil {
		t.Error("a snapshot past its validity is served")
	}
	// A damaged shard costs what follows in it, and nothing of the others.
	path := shardFile(dir, 2)
	b, _ := os.ReadFile(path)
	b[len(b)/2] ^= 1
	os.WriteFile(path, b, 0o600)
	if _, err := Rebuild(dir, &w.trust, testWall); err == nil {
		t.Error("a damaged snapshot is served")
	}
	table, buckets, err := Load(dir, &w.trust, testWall)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for place, k := range buckets {
		if k != nil {
			continue
		}
		if lost++; ShardOf(&table.Rows()[place]) != 2 {
			t.Errorf("bucket %d of shard %d is lost", place, ShardOf(&table.Rows()[place]))
		}
	}
	if lost == 0 || lost > len(buckets)/2 {
		t.Errorf("%d of %d buckets lost", lost, len(buckets))
	}
}

func TestShardsShareTheBuckets(t *testing.T) {
	d := newWorld(t).document(testEpoch, 0, 6000, 0)
	var n [shards]int
	rows := d.Rows()
	for i := range rows {
		n[ShardOf(&rows[i])]++
	}
	for s := range n {
		if n[s]*2 < len(rows)/shards || n[s] > 2*len(rows)/shards {
			t.Errorf("shard %d has %d of %d buckets", s, n[s], len(rows))
		}
	}
}

func TestShelfHandsOutTwoDocuments(t *testing.T) {
	w := newWorld(t)
	one, two, three := w.document(testEpoch, 0, 100, 0), w.document(testEpoch, 1, 100, 1), w.document(testEpoch, 2, 100, 2)
	s := &Shelf{}
	if s.Newest() != nil || s.of("") != nil {
		t.Error("an empty shelf has a document")
	}
	s.Put(two)
	s.Put(one)
	if s.Newest() != two || s.of(Name(one)) != nil {
		t.Error("an older document took the place of a newer")
	}
	s.Put(three)
	s.Put(three)
	if s.Newest() != three || s.of(Name(two)) == nil || s.of(Name(three)) == nil {
		t.Error("the document before is gone")
	}
}

// A cache holds what was made, for its time. (Control: a TTL of 0 holds nothing.)
func TestCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := &Memory{}
		s := &Shelf{Cache: m, TTL: 500 * time.Millisecond}
		s.Put(w.document(testEpoch, 0, 100, 0))
		h := s.of("")
		first := s.bucket(t.Context(), h, 0)
		if again := s.bucket(t.Context(), h, 0); &again[0] != &first[0] {
			t.Error("not kept")
		}
		time.Sleep(500 * time.Millisecond)
		if again := s.bucket(t.Context(), h, 0); &again[0] == &first[0] {
			t.Error("kept past its time")
		}
		s.TTL = 0
		first = s.bucket(t.Context(), h, 0)
		if again := s.bucket(t.Context(), h, 0); &again[0] == &first[0] {
			t.Error("kept without a time")
		}
		for range 3 * memoryMax >> 20 {
			m.Set(t.Context(), time.Now().String(), make([]byte, 1<<20), time.Hour)
			time.Sleep(time.Millisecond)
		}
		if m.bytes > memoryMax || m.bytes <= 0 {
			t.Errorf("holds %d bytes", m.bytes)
		}
	})
}

func TestServersAreParsed(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	for _, s := range []string{"http://127.0.0.1:9400", "https://127.0.0.1:9403#" + pin} {
		got, err := ParseServer(s)
		if err != nil || got.String() != s || got.Replica != strings.Contains(s, "#") {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"https://127.0.0.1:9403", "http://127.0.0.1:9400#" + pin, "https://127.0.0.1:9403#ab", "https://127.0.0.1:9403#" + pin[:62] + "xy"} {
		if _, err := ParseServer(s); err == nil {
			t.Errorf("%s: taken", s)
		}
	}
}

// Both sides show a certificate, and the replica's key is the one that the
// network file names; requests share one connection of HTTP/2.
func TestReplicasSpeakHTTP2WithCertificates(t *testing.T) {
	w := newWorld(t)
	cert, err := front.Issue(&[front.KeySize]byte{1, 2, 3}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pin, err := front.Pin(&cert)
	if err != nil {
		t.Fatal(err)
	}
	again, err := front.Issue(&[front.KeySize]byte{1, 2, 3}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := front.Pin(&again); err != nil || p != pin {
		t.Errorf("another certificate of one key has another pin: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shelf, mux := &Shelf{}, http.NewServeMux()
	shelf.Put(w.document(testEpoch, 0, 100, 0))
	shelf.Register(mux, true)
	var protos []string
	server := NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		protos = append(protos, r.Proto)
		if len(r.TLS.PeerCertificates) != 1 {
			t.Error("the client shows no certificate")
		}
		mux.ServeHTTP(rw, r)
	}))
	turned := make(chan string, 8)
	go Serve(server, ln, &[front.KeySize]byte{1, 2, 3}, func(why string) { turned <- why })
	defer server.Close()
	own, err := front.SelfSigned("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	get := func(s Server, own tls.Certificate) error {
		c := s.Client(own)
		defer c.CloseIdleConnections()
		for range 2 {
			resp, err := c.Get(s.URL + TablePath)
			if err != nil {
				return err
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return nil
	}
	s := Server{URL: "https://" + ln.Addr().String(), Pin: pin, Replica: true}
	if err := get(s, own); err != nil {
		t.Fatal(err)
	}
	if len(protos) != 2 || protos[0] != "HTTP/2.0" {
		t.Errorf("%v", protos)
	}
	if len(turned) != 0 {
		t.Errorf("who was served is told to be turned away: %s", <-turned)
	}
	if err := get(s, tls.Certificate{}); err == nil {
		t.Error("a client without a certificate is served")
	}
	select {
	case why := <-turned:
		if why != front.Silent {
			t.Errorf("a client without a certificate is turned away for %s", why)
		}
	case <-time.After(time.Minute):
		t.Error("nobody is told of a client without a certificate")
	}
	s.Pin[0] ^= 1
	if err := get(s, own); err == nil {
		t.Error("a server with another key is believed")
	}
}

// BenchmarkBucket is what a server pays for a bucket of 64 nodes or so that no
// cache has; package engine/cache measures one that has it.
func BenchmarkBucket(b *testing.B) {
	w := newWorld(b)
	s := &Shelf{}
	s.Put(w.document(testEpoch, 0, 4096, 0))
	h := s.of("")
	for b.Loop() {
		s.bucket(b.Context(), h, 7)
	}
	b.ReportMetric(float64(len(s.bucket(b.Context(), h, 7))), "B/bucket")
}

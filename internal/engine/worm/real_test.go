package worm

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/lab/servers/serverstest"
)

// realFixture is a log, and a bucket with object lock of a real server.
func realFixture(t *testing.T) (*fixture, *servers.S3) {
	t.Helper()
	s := serverstest.S3(t)
	b, err := s.Bucket("locked")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	f := newFixture(t)
	t.Cleanup(func() { f.log.Close() })
	f.place.Bucket = b
	return f, s
}

// copied runs a copier until what is signed is in the copy.
func (f *fixture) copied() Figures {
	f.Helper()
	c, err := f.start()
	if err != nil {
		f.Fatal(err)
	}
	c.Close()
	return c.Figures()
}

// A log on a real server: copied in several lives, with the server away for one, its
// objects refused to whoever would remove or change them, read whole in the end.
func TestRealCopy(t *testing.T) {
	f, s := realFixture(t)
	f.record(200, true)
	if got := f.copied(); got.Behind != 0 || got.Faults != 0 {
		t.Fatalf("%+v", got)
	}
	f.wantCopy(200)

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	f.record(100, true)
	if got := f.copied(); got.Faults == 0 || !strings.Contains(got.Why, "cannot be reached") {
		t.Errorf("while the server is away: %+v", got)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	f.record(50, true)
	if got := f.copied(); got.Behind != 0 || got.Faults != 0 {
		t.Errorf("when the server is back: %+v", got)
	}
	_, r := f.wantCopy(350)
	if r.Locked != r.Objects || r.Until.Before(time.Now().Add(f.keep-time.Hour)) || r.Upon != 0 {
		t.Errorf("%+v", r)
	}

	objects, err := f.place.Bucket.List(t.Context(), f.place.Prefix)
	if err != nil || len(objects) != r.Objects {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for _, o := range objects {
		if err := s.Ask(t.Context(), http.MethodDelete, "locked/"+o.Key, "versionId="+o.Version, nil, nil); err == nil {
			t.Errorf("%s was removed", o.Key)
		}
		s.Ask(t.Context(), http.MethodPut, "locked/"+o.Key, "", nil, []byte("forged"))
		s.Ask(t.Context(), http.MethodDelete, "locked/"+o.Key, "", nil, nil)
	}
	if _, r = f.wantCopy(350); r.Upon != 2*r.Objects {
		t.Errorf("%+v, of which each has a version and a mark upon it", r)
	}
	f.record(10, true)
	if got := f.copied(); got.Behind != 0 || got.Faults != 0 {
		t.Errorf("after that: %+v", got)
	}
	f.wantCopy(360)
}

// What will not do is refused at the start.
func TestRealStart(t *testing.T) {
	f, s := realFixture(t)
	f.record(10, true)
	for what, c := range map[string]struct {
		bucket, secret string
		want           error
	}{
		"a bucket without object lock": {"open", s.Secret, s3.ErrUnlocked},
		"no bucket":                    {"absent", s.Secret, s3.ErrNone},
		"another secret":               {"locked", "another", s3.ErrRefused},
	} {
		b, err := s3.Open(s3.Config{URL: s.URL, Bucket: c.bucket, KeyID: s.KeyID, Secret: func() ([]byte, error) { return []byte(c.secret), nil }})
		if err != nil {
			t.Fatal(err)
		}
		f.place.Bucket = b
		if _, err := f.start(); !errors.Is(err, c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		} else {
			t.Logf("%s: %v", what, err)
		}
		b.Close()
	}
}

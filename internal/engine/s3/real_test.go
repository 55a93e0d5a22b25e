package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
	"github.com/nyxnet/nyx/internal/lab/servers"
	"github.com/nyxnet/nyx/internal/lab/servers/serverstest"
)

func bucket(t *testing.T, s *servers.S3, name string) *s3.Bucket {
	t.Helper()
	b, err := s.Bucket(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// one is the one object below a prefix.
func one(t *testing.T, b *s3.Bucket, prefix string) s3.Object {
	t.Helper()
	all, err := b.List(t.Context(), prefix)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d objects below %s: %v", len(all), prefix, err)
	}
	return all[0]
}

// What a real server does with what is put under a lock: nobody removes or changes it,
// not with the key that put it, which may do everything else. The control is an object
// beside it without a lock, which that key removes.
func TestRealLock(t *testing.T) {
	s := serverstest.S3(t)
	b := bucket(t, s, "locked")
	content, until := []byte("a part of a log"), time.Now().Add(time.Hour)
	if _, err := b.Put(t.Context(), "a/000000000000", content, until); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "a/000000000000", []byte("forged"), until); !errors.Is(err, s3.ErrExists) {
		t.Errorf("put upon a part: %v", err)
	}
	o := one(t, b, "a/")
	unchanged := func(later int) {
		t.Helper()
		o := one(t, b, "a/")
		got, lock, err := b.Get(t.Context(), o)
		if err != nil || !bytes.Equal(got, content) || !lock.Compliance || lock.Until.Sub(until).Abs() > time.Second || o.Later < later {
			t.Errorf("%+v holds %q, locked %+v: %v", o, got, lock, err)
		}
	}
	unchanged(0)
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("the server lets the key %s", what)
		}
		unchanged(0)
	}
	at := "locked/" + o.Key
	version := "versionId=" + o.Version
	bypass := map[string]string{"X-Amz-Bypass-Governance-Retention": "true"}
	retention := func(mode string, until time.Time) []byte {
		return []byte("<Retention><Mode>" + mode + "</Mode><RetainUntilDate>" + until.UTC().Format(time.RFC3339) + "</RetainUntilDate></Retention>")
	}
	refused("remove a part", s.Ask(t.Context(), http.MethodDelete, at, version, nil, nil))
	refused("remove a part past governance", s.Ask(t.Context(), http.MethodDelete, at, version, bypass, nil))
	refused("shorten a lock", s.Ask(t.Context(), http.MethodPut, at, "retention=&"+version, nil, retention("COMPLIANCE", time.Now().Add(time.Minute))))
	refused("weaken a lock", s.Ask(t.Context(), http.MethodPut, at, "retention=&"+version, bypass, retention("GOVERNANCE", until)))

	// A version or a mark that is put upon it leaves the first where it is.
	s.Ask(t.Context(), http.MethodPut, at, "", nil, []byte("forged"))
	unchanged(1)
	refused("remove a part upon which another was put", s.Ask(t.Context(), http.MethodDelete, at, version, nil, nil))
	s.Ask(t.Context(), http.MethodDelete, at, "", nil, nil)
	unchanged(2)
	refused("remove a part that is marked as deleted", s.Ask(t.Context(), http.MethodDelete, at, version, nil, nil))

	// A lock can be made longer, and then has that length.
	until = until.Add(time.Hour)
	if err := b.Extend(t.Context(), o, until); err != nil {
		t.Error(err)
	}
	unchanged(2)
	refused("shorten a lock that was made longer", s.Ask(t.Context(), http.MethodPut, at, "retention=&"+version, nil, retention("COMPLIANCE", until.Add(-time.Hour))))

	// The control: without a lock the same key removes it.
	if err := s.Ask(t.Context(), http.MethodPut, "locked/b/free", "", nil, content); err != nil {
		t.Fatal(err)
	}
	free := one(t, b, "b/")
	if _, lock, err := b.Get(t.Context(), free); err != nil || lock.Compliance {
		t.Errorf("%+v, %v", lock, err)
	}
	remove := func(o s3.Object) error {
		return s.Ask(t.Context(), http.MethodDelete, "locked/"+o.Key, "versionId="+o.Version, nil, nil)
	}
	if err := remove(free); err != nil {
		t.Errorf("an object without a lock is not removed: %v", err)
	}
	if all, err := b.List(t.Context(), "b/"); err != nil || len(all) != 0 {
		t.Errorf("%v is left of an object that was removed, %v", all, err)
	}
	// It can be locked later, and stays then.
	if err := s.Ask(t.Context(), http.MethodPut, "locked/c/late", "", nil, content); err != nil {
		t.Fatal(err)
	}
	late := one(t, b, "c/")
	if err := b.Extend(t.Context(), late, until); err != nil {
		t.Error(err)
	}
	if remove(late) == nil {
		t.Error("an object that was locked later was removed")
	}
}

// A lock ends when it said that it would.
func TestRealLockEnds(t *testing.T) {
	s := serverstest.S3(t)
	b := bucket(t, s, "locked")
	until := time.Now().Add(3 * time.Second)
	if _, err := b.Put(t.Context(), "short/000000000000", []byte("a part"), until); err != nil {
		t.Fatal(err)
	}
	o := one(t, b, "short/")
	remove := func() error {
		return s.Ask(t.Context(), http.MethodDelete, "locked/"+o.Key, "versionId="+o.Version, nil, nil)
	}
	if err := remove(); err == nil {
		t.Error("a part was removed before its lock was over")
	}
	<-time.After(time.Until(until) + time.Second)
	if err := remove(); err != nil {
		t.Errorf("a part whose lock is over: %v", err)
	}
}

// Buckets and keys that will not do are told apart.
func TestRealRefusals(t *testing.T) {
	s := serverstest.S3(t)
	for name, want := range map[string]error{"locked": nil, "open": s3.ErrUnlocked, "absent": s3.ErrNone} {
		if err := bucket(t, s, name).Check(t.Context()); !errors.Is(err, want) || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bucket(t, s, "open").Put(t.Context(), "a/000000000000", []byte("a part"), time.Now().Add(time.Hour)); err == nil {
		t.Error("put under a lock where there are none")
	}
	for what, cfg := range map[string]s3.Config{
		"another secret": {KeyID: s.KeyID, Secret: func() ([]byte, error) { return []byte("another"), nil }},
		"another key":    {KeyID: "nobody", Secret: func() ([]byte, error) { return []byte(s.Secret), nil }},
	} {
		cfg.URL, cfg.Bucket = s.URL, "locked"
		b, err := s3.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(t.Context()); !errors.Is(err, s3.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := b.Put(t.Context(), "a/000000000000", []byte("a part"), time.Now().Add(time.Hour)); !errors.Is(err, s3.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
		b.Close()
	}
	if all, err := bucket(t, s, "locked").List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("%v was put by nobody, %v", all, err)
	}
}

// Half of an upload is none.
func TestRealHalfUpload(t *testing.T) {
	s := serverstest.S3(t)
	content := bytes.Repeat([]byte("part"), 1<<18)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/locked/half/000000000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	s3.Sign(r, content, "us-east-1", s.KeyID, []byte(s.Secret), time.Now())
	r.ContentLength = int64(len(content))
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:len(content)/2]), broken{}))
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("half of an upload is answered by %s", resp.Status)
	}
	b := bucket(t, s, "locked")
	if all, err := b.List(t.Context(), "half/"); err != nil || len(all) != 0 {
		t.Errorf("%v is there of half an upload, %v", all, err)
	}
	if _, err := b.Put(t.Context(), "half/000000000000", content, time.Now().Add(time.Hour)); err != nil {
		t.Errorf("the whole after the half: %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection broke") }

// A list goes over pages of a thousand.
func TestRealList(t *testing.T) {
	s := serverstest.S3(t)
	b := bucket(t, s, "open")
	const many = 1203
	for n := range many {
		if err := s.Ask(t.Context(), http.MethodPut, "open/many/"+fmt.Sprintf("%04d", n), "", nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	all, err := b.List(t.Context(), "many/")
	if err != nil || len(all) != many || all[0].Key != "many/0000" || all[many-1].Key != "many/1202" {
		t.Errorf("%d objects, %v", len(all), err)
	}
}

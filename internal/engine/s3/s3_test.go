package s3

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

// Examples of AWS's documentation of signatures.
func TestSignature(t *testing.T) {
	for parameters, want := range map[string]string{
		"lifecycle=":          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		"max-keys=2&prefix=J": "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	} {
		r, err := http.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/?"+parameters, nil)
		if err != nil {
			t.Fatal(err)
		}
		Sign(r, nil, "us-east-1", "AKIAIOSFODNN7EXAMPLE", []byte("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
		if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+want) {
			t.Errorf("%s: %s", parameters, got)
		}
	}
	if got := query(map[string]string{"b": "x y/+~", "a": ""}); got != "a=&b=x%20y%2F%2B~" {
		t.Error(got)
	}
}

// answering is a bucket of a server that gives these answers.
func answering(t *testing.T, answer http.HandlerFunc) *Bucket {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	b, err := Open(Config{URL: server.URL, Bucket: "audit", KeyID: "id", Secret: func() ([]byte, error) { return []byte("planted-secret"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>in many\nwords</Message></Error>", code)
}

// What a server says wrongly, or refuses, is an error of one line that holds no secret.
func TestAnswers(t *testing.T) {
	for what, c := range map[string]struct {
		answer http.HandlerFunc
		is     error
		says   string
	}{
		"a page":          {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, nil, "check the URL"},
		"not configured":  {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "ObjectLockConfigurationNotFoundError") }, ErrUnlocked, "make a bucket with object lock"},
		"not enabled":     {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<ObjectLockConfiguration/>") }, ErrUnlocked, "object lock"},
		"no bucket":       {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchBucket") }, ErrNone, "make the bucket"},
		"another key":     {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "SignatureDoesNotMatch") }, ErrRefused, "check the access key"},
		"an endless code": {func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, strings.Repeat("x", 500)) }, nil, "400"},
		"an endless one":  {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, answerMax+1)) }, nil, "was cut"},
		"somewhere else": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.test/", http.StatusTemporaryRedirect)
		}, nil, "307"},
	} {
		err := answering(t, c.answer).Check(t.Context())
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "planted") || len(err.Error()) > 400 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A server that is busy is asked again, one that refuses is not.
func TestAskedAgain(t *testing.T) {
	asked := 0
	b := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < tries {
			refuse(w, 503, "SlowDown")
			return
		}
		io.WriteString(w, "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>")
	})
	if err := b.Check(t.Context()); err != nil || asked != tries {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked = 0
	b = answering(t, func(w http.ResponseWriter, _ *http.Request) { asked++; refuse(w, 403, "AccessDenied") })
	if err := b.Check(t.Context()); !errors.Is(err, ErrRefused) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// An object is put with its lock and its digest, and what the server does not say that
// it has locked is an error.
func TestPut(t *testing.T) {
	content, until := []byte("a part"), time.Date(2036, 11, 23, 9, 0, 0, 5, time.UTC)
	sum := seal.SHA256(content)
	mode := "COMPLIANCE"
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/audit/a%3Db/000000000000" {
			t.Errorf("asked for %s", r.URL.EscapedPath())
		}
		if r.Method == http.MethodGet {
			if r.URL.RawQuery != "retention=&versionId=v1" {
				t.Errorf("asked about %q", r.URL.RawQuery)
			}
			fmt.Fprintf(w, "<Retention><Mode>%s</Mode><RetainUntilDate>2036-11-23T09:00:00.000Z</RetainUntilDate></Retention>", mode)
			return
		}
		got, _ := io.ReadAll(r.Body)
		h := r.Header
		if !bytes.Equal(got, content) || h.Get("If-None-Match") != "*" || h.Get("X-Amz-Object-Lock-Mode") != "COMPLIANCE" || h.Get("X-Amz-Object-Lock-Retain-Until-Date") != "2036-11-23T09:00:00Z" ||
			h.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) || !strings.Contains(h.Get("Authorization"), "x-amz-object-lock-mode") {
			t.Errorf("put %q with %v", got, h)
		}
		w.Header().Set("X-Amz-Version-Id", "v1")
	})
	if _, err := b.Put(t.Context(), "a=b/000000000000", content, until); err != nil {
		t.Error(err)
	}
	mode = "GOVERNANCE" // which binds not everybody
	if _, err := b.Put(t.Context(), "a=b/000000000000", content, until); !errors.Is(err, ErrUnlocked) {
		t.Errorf("not locked: %v", err)
	}
	if _, err := b.Put(t.Context(), "a", make([]byte, ContentMax+1), until); err == nil {
		t.Error("put more than an object holds")
	}
}

// A lock is made longer of one version, in compliance mode and with a digest; a server
// that takes it and does not keep it is found out.
func TestExtend(t *testing.T) {
	kept := ""
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/audit/a" || r.URL.RawQuery != "retention=&versionId=v1" {
			t.Errorf("asked for %s", r.URL)
		}
		if r.Method == http.MethodGet {
			io.WriteString(w, kept)
			return
		}
		got, _ := io.ReadAll(r.Body)
		sum := seal.SHA256(got)
		if !strings.Contains(string(got), "<Mode>COMPLIANCE</Mode>") || r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("put %q with %v", got, r.Header)
		}
		if kept == "" {
			kept = string(got)
		}
	})
	o, until := Object{Key: "a", Version: "v1"}, time.Date(2036, 11, 23, 9, 0, 0, 5, time.UTC)
	if err := b.Extend(t.Context(), o, until); err != nil {
		t.Error(err)
	}
	if err := b.Extend(t.Context(), o, until.Add(time.Hour)); !errors.Is(err, ErrUnlocked) {
		t.Errorf("not made longer: %v", err)
	}
}

// A list has the first version of each object, over all pages, and says what was put
// upon it.
func TestList(t *testing.T) {
	version := func(key, id string) string {
		return fmt.Sprintf("<Version><Key>%s</Key><VersionId>%s</VersionId><Size>3</Size></Version>", key, id)
	}
	pages := map[string]string{
		"": "<IsTruncated>true</IsTruncated><NextKeyMarker>b</NextKeyMarker><NextVersionIdMarker>3</NextVersionIdMarker>" +
			"<DeleteMarker><Key>a</Key><VersionId>9</VersionId></DeleteMarker>" + version("a", "2") + version("b", "3"),
		"b": "<IsTruncated>false</IsTruncated>" + version("b", "1") + version("c", "1"),
	}
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("prefix") != "x/" || q.Has("key-marker") && q.Get("version-id-marker") != "3" {
			t.Errorf("asked for %q", r.URL.RawQuery)
		}
		io.WriteString(w, "<ListVersionsResult>"+pages[q.Get("key-marker")]+"</ListVersionsResult>")
	})
	got, err := b.List(t.Context(), "x/")
	if want := "[{a 2 3 1} {b 1 3 1} {c 1 3 0}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, not %s, error %v", got, want, err)
	}
	pages["b"] = pages[""]
	if got, err := b.List(t.Context(), "x/"); err == nil {
		t.Errorf("a list without end: %v", got)
	}
}

// What comes is as long as the list said.
func TestGet(t *testing.T) {
	b := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Object-Lock-Mode", "GOVERNANCE")
		w.Header().Set("X-Amz-Object-Lock-Retain-Until-Date", "2036-11-23T09:00:00Z")
		io.WriteString(w, "four")
	})
	if content, lock, err := b.Get(t.Context(), Object{Key: "a", Size: 4}); string(content) != "four" || lock.Compliance || err != nil {
		t.Errorf("%q, %+v, %v", content, lock, err)
	}
	if _, _, err := b.Get(t.Context(), Object{Key: "a", Size: 5}); err == nil {
		t.Error("half of an object came")
	}
}

// slow is a line of so many bytes a second each way, to a server that keeps one object;
// 0: nothing comes through.
type slow struct {
	bytesPerSecond, asked int
	object                []byte
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.asked++; s.bytesPerSecond == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	answer := s.object
	switch {
	case r.Method == http.MethodPut:
		s.object, _ = io.ReadAll(r.Body)
		answer = nil
	case r.URL.Query().Has("retention"):
		answer = []byte("<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2136-11-23T09:00:00Z</RetainUntilDate></Retention>")
	}
	passes := max(r.ContentLength, int64(len(answer)))
	select {
	case <-time.After(time.Duration(passes) * time.Second / time.Duration(s.bytesPerSecond)):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer))}, nil
}

// The greatest object goes and comes over a line of 0.6 Mbit/s, each in one request; a
// server that says nothing is given up all the same.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &slow{bytesPerSecond: 72 << 10}
		b, err := Open(Config{URL: "http://s3.test", Bucket: "audit", Transport: line, Secret: func() ([]byte, error) { return []byte("secret"), nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		content := bytes.Repeat([]byte("part"), ContentMax/4)
		if _, err := b.Put(t.Context(), "a", content, time.Now().Add(time.Hour)); err != nil || line.asked != 2 {
			t.Errorf("put in %d requests: %v", line.asked, err)
		}
		if got, _, err := b.Get(t.Context(), Object{Key: "a", Size: ContentMax}); err != nil || !bytes.Equal(got, content) || line.asked != 4 {
			t.Errorf("%d bytes came in %d requests: %v", len(got), line.asked, err)
		}
		line.bytesPerSecond = 0
		begun := time.Now()
		if err := b.Check(t.Context()); err == nil || time.Since(begun) > tries*callMax+time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

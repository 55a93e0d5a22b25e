// Package s3 speaks to a bucket of a server with S3's API, as much as a copy under
// object lock needs: objects are put once, with the time until which nobody may remove
// or change them, which can be made later; they are listed and read.
//
// In a bucket with object lock every object has versions. Who holds the credentials
// can put a later version of an object, or a mark that it is deleted, and cannot touch
// the first while its lock lasts. So this package knows of each object its first
// version only; what was put upon it is counted.
package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/seal"
)

var (
	// ErrUnlocked means a bucket without object lock, or an object without a lock.
	ErrUnlocked = errors.New("no object lock")
	// ErrExists means that an object was there before.
	ErrExists = errors.New("the object is there already")
	// ErrRefused means that the server does not let these credentials do it.
	ErrRefused = errors.New("refused")
	// ErrNone means that there is no such bucket or object.
	ErrNone = errors.New("it is not there")
)

const (
	// ContentMax bounds an object, in bytes: it is held in memory.
	ContentMax = 8 << 20
	// answerMax bounds what else a server says: a list of a thousand names.
	answerMax = 4 << 20
	// callMax bounds a request, with a second more for each bytesPerSecond of what goes
	// and comes, so that a line of 0.5 Mbit/s is slow and not a fault; tries is how often
	// it is made of a server that is busy or away, with pauses that double from retryMin
	// on.
	callMax        = 30 * time.Second
	bytesPerSecond = 64 << 10
	tries          = 4
	retryMin       = 100 * time.Millisecond
	// listMost bounds the objects of a list, so that memory is: ten years at one
	// every 5 min twice.
	listMost = 1 << 22
	// clockSlack is how far the server may round a time of a lock.
	clockSlack = time.Second
)

// Config says which bucket of which server.
type Config struct {
	// URL is the server's, as https://s3.example:9000; the bucket's name stands in the
	// path of requests.
	URL, Bucket string
	// Region stands in signatures; "" is us-east-1, which servers take that have none.
	Region string
	// KeyID and Secret are an access key. Secret is asked for every request.
	KeyID  string
	Secret func() ([]byte, error)
	// CA is a PEM file of who vouches for the server; "" for whom the system trusts.
	CA string
	// Transport takes the place of HTTP over TLS; nil: it is that.
	Transport http.RoundTripper
}

// Bucket is a bucket. Its methods are safe for concurrent use.
type Bucket struct {
	cfg    Config
	client *http.Client
}

// Open returns a bucket, which is asked when it is needed.
func Open(cfg Config) (*Bucket, error) {
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Transport == nil {
		trust := &tls.Config{MinVersion: tls.VersionTLS12}
		if cfg.CA != "" {
			b, err := os.ReadFile(cfg.CA)
			if err != nil {
				return nil, fmt.Errorf("cannot read whom to trust as the S3 server: %w", err)
			}
			if trust.RootCAs = x509.NewCertPool(); !trust.RootCAs.AppendCertsFromPEM(b) {
				return nil, fmt.Errorf("%s holds no certificate; name the PEM file of who vouches for the S3 server", cfg.CA)
			}
		}
		cfg.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: callMax}
	}
	// A redirect would take a request elsewhere than where it is signed for.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Bucket{cfg, &http.Client{Transport: cfg.Transport, CheckRedirect: stay}}, nil
}

// Close ends connections.
func (b *Bucket) Close() { b.client.CloseIdleConnections() }

// String names the bucket for people.
func (b *Bucket) String() string { return "bucket " + b.cfg.Bucket + " at " + b.cfg.URL }

// Check returns ErrUnlocked unless objects of the bucket can be locked.
func (b *Bucket) Check(ctx context.Context) error {
	var answer struct {
		Enabled string `xml:"ObjectLockEnabled"`
	}
	_, content, err := b.call(ctx, ask{method: http.MethodGet, parameters: map[string]string{"object-lock": ""}})
	if f := (&fault{}); errors.As(err, &f) && f.code == "ObjectLockConfigurationNotFoundError" {
		return b.unlocked()
	}
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(content, &answer); err != nil {
		return fmt.Errorf("%v: its answer is not that of S3's API; check the URL: %w", b, err)
	}
	if answer.Enabled != "Enabled" {
		return b.unlocked()
	}
	return nil
}

func (b *Bucket) unlocked() error {
	return fmt.Errorf("%v has %w: what is put there can be removed; make a bucket with object lock", b, ErrUnlocked)
}

// The headers of a lock, and the mode that binds everybody.
const (
	compliance = "COMPLIANCE"
	lockMode   = "X-Amz-Object-Lock-Mode"
	lockUntil  = "X-Amz-Object-Lock-Retain-Until-Date"
)

// Lock is until when the server refuses to remove or change an object.
type Lock struct {
	Compliance bool // for whoever asks, without exception
	Until      time.Time
}

// Put puts an object that is not there yet, locked until a time, and returns when the
// server has said that it is. ErrExists: it is there.
func (b *Bucket) Put(ctx context.Context, key string, content []byte, until time.Time) (Object, error) {
	if len(content) > ContentMax {
		return Object{}, fmt.Errorf("%s: %d bytes, at most %d", key, len(content), ContentMax)
	}
	until = until.UTC().Truncate(time.Second)
	headers := digest(content)
	headers["If-None-Match"], headers[lockMode], headers[lockUntil] = "*", compliance, until.Format(time.RFC3339)
	got, _, err := b.call(ctx, ask{method: http.MethodPut, key: key, headers: headers, content: content})
	if err != nil {
		return Object{}, err
	}
	o := Object{Key: key, Version: got.Get("X-Amz-Version-Id"), Size: int64(len(content))}
	return o, b.locked(ctx, o, until)
}

// Extend locks an object that is there until a time, which is no earlier than that until
// which it is locked already.
func (b *Bucket) Extend(ctx context.Context, o Object, until time.Time) error {
	until = until.UTC().Truncate(time.Second)
	content := []byte("<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>" + compliance + "</Mode><RetainUntilDate>" + until.Format(time.RFC3339) + "</RetainUntilDate></Retention>")
	parameters := versioned(o)
	parameters["retention"] = ""
	if _, _, err := b.call(ctx, ask{method: http.MethodPut, key: o.Key, parameters: parameters, headers: digest(content), content: content}); err != nil {
		return err
	}
	return b.locked(ctx, o, until)
}

// digest is the headers by which a server knows that all of a content came.
func digest(content []byte) map[string]string {
	sum := seal.SHA256(content)
	return map[string]string{"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum[:]), "X-Amz-Sdk-Checksum-Algorithm": "SHA256"}
}

// locked returns ErrUnlocked unless the server says that an object is locked until a time.
func (b *Bucket) locked(ctx context.Context, o Object, until time.Time) error {
	lock, err := b.lock(ctx, o)
	if err == nil && (!lock.Compliance || lock.Until.Before(until.Add(-clockSlack))) {
		err = fmt.Errorf("%s is there, and has %w in compliance mode until %v; the server does not keep what it says", o.Key, ErrUnlocked, until)
	}
	return err
}

// Object is the first version of an object.
type Object struct {
	Key, Version string
	Size         int64
	// Later is how many versions and marks of deletion were put upon it.
	Later int
}

// List lists the objects whose keys begin with a prefix, in the order of their keys.
func (b *Bucket) List(ctx context.Context, prefix string) (out []Object, err error) {
	type entry struct {
		Key     string `xml:"Key"`
		Version string `xml:"VersionId"`
		Size    int64  `xml:"Size"`
	}
	parameters := map[string]string{"versions": "", "prefix": prefix}
	marked := map[string]int{}
	for {
		_, content, err := b.call(ctx, ask{method: http.MethodGet, parameters: parameters})
		if err != nil {
			return nil, err
		}
		var page struct {
			Versions    []entry `xml:"Version"`
			Marks       []entry `xml:"DeleteMarker"`
			Truncated   bool    `xml:"IsTruncated"`
			NextKey     string  `xml:"NextKeyMarker"`
			NextVersion string  `xml:"NextVersionIdMarker"`
		}
		if err := xml.Unmarshal(content, &page); err != nil {
			return nil, fmt.Errorf("%v: its list is not that of S3's API: %w", b, err)
		}
		for _, e := range page.Versions { // of one key the newest comes first
			o := Object{e.Key, e.Version, e.Size, 0}
			if last := len(out) - 1; last >= 0 && out[last].Key == e.Key {
				o.Later = out[last].Later + 1
				out[last] = o
				continue
			}
			out = append(out, o)
		}
		for _, e := range page.Marks {
			marked[e.Key]++
		}
		if len(out) > listMost {
			return nil, fmt.Errorf("%v has more than %d objects below %s", b, listMost, prefix)
		}
		if !page.Truncated {
			break
		}
		if page.NextKey <= parameters["key-marker"] && page.NextVersion == parameters["version-id-marker"] {
			return nil, fmt.Errorf("%v: its list does not go on after %q", b, page.NextKey)
		}
		parameters["key-marker"], parameters["version-id-marker"] = page.NextKey, page.NextVersion
	}
	for i := range out {
		out[i].Later += marked[out[i].Key]
	}
	return out, nil
}

// Get reads an object, and says how it is locked.
func (b *Bucket) Get(ctx context.Context, o Object) ([]byte, Lock, error) {
	header, content, err := b.call(ctx, ask{method: http.MethodGet, key: o.Key, parameters: versioned(o), comes: o.Size})
	if err != nil {
		return nil, Lock{}, err
	}
	if int64(len(content)) != o.Size {
		return nil, Lock{}, fmt.Errorf("%s: %d bytes came of %d", o.Key, len(content), o.Size)
	}
	if mode := header.Get(lockMode); mode != "" {
		until, err := time.Parse(time.RFC3339, header.Get(lockUntil))
		return content, Lock{mode == compliance, until}, err
	}
	lock, err := b.lock(ctx, o) // some servers say it only when they are asked for it
	return content, lock, err
}

// lock asks how an object is locked.
func (b *Bucket) lock(ctx context.Context, o Object) (Lock, error) {
	parameters := versioned(o)
	parameters["retention"] = ""
	_, answer, err := b.call(ctx, ask{method: http.MethodGet, key: o.Key, parameters: parameters})
	if f := (&fault{}); errors.As(err, &f) && f.code == "NoSuchObjectLockConfiguration" {
		return Lock{}, nil
	}
	var said struct {
		Mode  string    `xml:"Mode"`
		Until time.Time `xml:"RetainUntilDate"`
	}
	if err == nil {
		err = xml.Unmarshal(answer, &said)
	}
	return Lock{said.Mode == compliance, said.Until}, err
}

func versioned(o Object) map[string]string {
	if o.Version == "" || o.Version == "null" {
		return map[string]string{}
	}
	return map[string]string{"versionId": o.Version}
}

// fault is an answer other than success.
type fault struct {
	what   string // was asked for, and of whom
	status int
	code   string // the server's name of it
}

func (f *fault) Error() string {
	text := fmt.Sprintf("%s: the S3 server answers %d %s %s", f.what, f.status, http.StatusText(f.status), f.code)
	switch {
	case f.Is(ErrRefused):
		text += "; check the access key, its secret and what it may do"
	case f.Is(ErrExists):
		text += "; the object is there already"
	case f.code == "NoSuchBucket":
		text += "; make the bucket, with object lock"
	}
	return text
}

// Is tells errors.Is what the answer means.
func (f *fault) Is(target error) bool {
	switch target {
	case ErrRefused:
		return f.status == http.StatusForbidden || f.status == http.StatusUnauthorized || f.code == "XAdminUserNotFound" // the Versity gateway's
	case ErrExists:
		return f.status == http.StatusPreconditionFailed || f.code == "ObjectLocked" || f.code == "ConditionalRequestConflict"
	case ErrNone:
		return f.status == http.StatusNotFound && !f.Is(ErrRefused)
	}
	return false
}

// passing reports whether a server that answered so may answer otherwise soon.
func (f *fault) passing() bool {
	return f.status >= 500 && f.status != http.StatusNotImplemented || f.status == http.StatusTooManyRequests || f.status == http.StatusRequestTimeout
}

// ask is a request, of the bucket or of an object in it.
type ask struct {
	method, key         string
	parameters, headers map[string]string
	content             []byte
	comes               int64 // bytes of an object that the answer holds
}

// most is how long it may take.
func (a *ask) most() time.Duration {
	bytes := int64(len(a.content)) + min(a.comes, ContentMax)
	return callMax + time.Duration(bytes)*time.Second/bytesPerSecond
}

// call makes a request, again after a pause if the server is busy or away.
func (b *Bucket) call(ctx context.Context, a ask) (http.Header, []byte, error) {
	for n, pause := 1, retryMin; ; n, pause = n+1, 2*pause {
		header, answer, err := b.once(ctx, a)
		f := &fault{}
		if err == nil || n == tries || ctx.Err() != nil || errors.As(err, &f) && !f.passing() {
			return header, answer, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, err
		}
	}
}

func (b *Bucket) once(ctx context.Context, a ask) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, a.most())
	defer cancel()
	path, what := "/"+b.cfg.Bucket, b.String()
	if a.key != "" {
		path, what = path+"/"+a.key, a.key+" in "+what
	}
	at, err := url.Parse(b.cfg.URL)
	if err != nil {
		return nil, nil, err
	}
	at.Path, at.RawPath, at.RawQuery = path, escape(path, true), query(a.parameters)
	r, err := http.NewRequestWithContext(ctx, a.method, at.String(), bytes.NewReader(a.content))
	if err != nil {
		return nil, nil, err
	}
	for name, value := range a.headers {
		r.Header.Set(name, value)
	}
	secret, err := b.cfg.Secret()
	if err != nil {
		return nil, nil, fmt.Errorf("the secret of the access key: %w", err)
	}
	Sign(r, a.content, b.cfg.Region, b.cfg.KeyID, secret, time.Now())
	clear(secret)
	resp, err := b.client.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: the S3 server cannot be reached: %w", what, err)
	}
	defer resp.Body.Close()
	most := int64(answerMax)
	if a.key != "" {
		most = ContentMax
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err == nil && int64(len(answer)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: the S3 server's answer was cut: %w", what, err)
	}
	if resp.StatusCode >= 300 {
		return nil, nil, &fault{what, resp.StatusCode, faultCode(answer)}
	}
	return resp.Header, answer, nil
}

// codeMax bounds what is repeated of a server's words.
const codeMax = 64

func faultCode(answer []byte) string {
	var said struct {
		Code string `xml:"Code"`
	}
	if xml.Unmarshal(answer, &said) != nil {
		return ""
	}
	code := strings.Join(strings.Fields(said.Code), " ")
	return code[:min(len(code), codeMax)]
}

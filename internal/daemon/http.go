package daemon

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/telemetry/span"
)

// feedTimeout bounds one request.
const feedTimeout = 20 * time.Second

// newHTTP returns a client that asks directories directly: a proxy named in the
// environment is for other programs, and may well be this one.
func newHTTP() *http.Client {
	return &http.Client{Timeout: feedTimeout, Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: 2 * feedPoll}}
}

// newServer returns a server on which no peer can hold a connection for long.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: feedTimeout, ReadTimeout: feedTimeout,
		WriteTimeout: 2 * feedTimeout, IdleTimeout: 2 * feedPoll, MaxHeaderBytes: 16 << 10,
	}
}

// request is one of a server of the directory.
type request struct {
	server, path string
	post         []byte // the body; nil: it is a GET
	tag          string // of what is had already, or ""
	most         int64  // bytes of the answer that are read

	authorization string // the header of that name, or ""
}

// reply is what the server answered.
type reply struct {
	*http.Response // its body is read, and closed
	body           []byte
}

// ok reports whether the server did what it was asked for.
func (r *reply) ok() bool { return r.StatusCode == http.StatusOK }

// said is what a server says that did not.
func (r *reply) said() string {
	return strings.TrimSpace(string(r.body[:min(len(r.body), 1<<10)]))
}

// exchange makes a request. Where the answer breaks off, its head is returned with
// the error.
func exchange(ctx context.Context, client *http.Client, q request) (r reply, err error) {
	method := http.MethodGet
	if q.post != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(q.server, "/")+q.path, bytes.NewReader(q.post))
	if err != nil {
		return r, err
	}
	if q.tag != "" {
		req.Header.Set("If-None-Match", q.tag)
	}
	if q.authorization != "" {
		req.Header.Set("Authorization", q.authorization)
	}
	span.Inject(req)
	if r.Response, err = client.Do(req); err != nil {
		return reply{}, err
	}
	defer r.Body.Close()
	r.body, err = io.ReadAll(io.LimitReader(r.Body, q.most))
	return r, err
}

// takeBody reads what is posted; where it cannot, that is answered.
func takeBody(w http.ResponseWriter, r *http.Request, what string, most int64) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		http.Error(w, what+" too large or cut off", http.StatusBadRequest)
	}
	return b, err == nil
}

// Package daemon assembles roles into a process: directory authorities, Mix
// nodes, Stream nodes and clients, each with its machine, socket and host. It
// is the only place that does.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
)

// Paths of the directory's HTTP interface (docs/protocol.md, section 7).
const (
	documentPath   = "/nyx/v1/document"
	descriptorPath = "/nyx/v1/descriptor"
	signPath       = "/nyx/v1/sign"
)

const (
	// feedPoll is how often a node or client asks for a newer document, and
	// feedFirst how soon it asks again
	// after a change; in between, the interval doubles.
	feedPoll  = 30 * time.Second
	feedFirst = 50 * time.Millisecond
	// feedTimeout bounds one request.
	feedTimeout = 20 * time.Second
	// documentMax is the size of the largest document that is read: the
	// greatest number of nodes at 8 KiB each.
	documentMax = directory.MaxNodes * 8 << 10
)

// feed fetches directory documents, verifies them and passes them on.
type feed struct {
	urls    []string
	keeper  *directory.Keeper
	client  *http.Client
	tag     string
	deliver func(*directory.View)
	// poll overrides feedPoll; 0 means feedPoll.
	poll time.Duration
}

func newFeed(trust directory.Trust, urls []string, poll time.Duration, deliver func(*directory.View)) (*feed, error) {
	if len(urls) == 0 {
		return nil, errors.New("no directory address is configured; set directory.urls")
	}
	keeper, err := directory.NewKeeper(trust, directory.Mark{})
	if err != nil {
		return nil, err
	}
	if poll == 0 {
		poll = feedPoll
	}
	return &feed{urls: urls, keeper: keeper, client: newHTTP(), deliver: deliver, poll: poll}, nil
}

// newHTTP returns a client that asks directories directly: a proxy named in the
// environment is for other programs, and may well be this one.
func newHTTP() *http.Client {
	return &http.Client{Timeout: feedTimeout, Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: 2 * feedPoll}}
}

// run fetches until ctx ends. The first document is waited for eagerly; a
// failure is reported to failed, and tried again.
func (f *feed) run(ctx context.Context, failed func(error)) {
	defer f.client.CloseIdleConnections()
	wait := feedFirst
	for i := 0; ; i++ {
		before := f.tag
		err := f.fetch(ctx, f.urls[i%len(f.urls)])
		if ctx.Err() != nil {
			return
		}
		failed(err)
		if wait = min(2*wait, f.poll); f.tag != before {
			wait = feedFirst // a change seldom comes alone
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// fetch asks one directory server.
func (f *feed) fetch(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(url, "/")+documentPath, nil)
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	if f.tag != "" {
		req.Header.Set("If-None-Match", f.tag)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return nil
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return fmt.Errorf("directory %s has no document yet; it waits for its nodes", url)
	default:
		return fmt.Errorf("directory %s answers %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, documentMax))
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	d, err := f.keeper.Accept(b, time.Now().Unix())
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	v, err := directory.NewView(d)
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	f.tag = resp.Header.Get("ETag")
	f.deliver(v)
	return nil
}

// publish posts a signed descriptor to every authority, until each has it.
func publish(ctx context.Context, urls []string, descriptor []byte) error {
	client := newHTTP()
	defer client.CloseIdleConnections()
	var errs []error
	for _, url := range urls {
		if err := post(ctx, client, strings.TrimRight(url, "/")+descriptorPath, descriptor); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("directory %s: %w", url, err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("directory %s refused the descriptor: %s", url, strings.TrimSpace(string(said)))
	}
	return nil
}

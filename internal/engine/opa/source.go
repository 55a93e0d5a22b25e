package opa

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/nyxnet/nyx/internal/prng"
)

// Config says where policies come from.
type Config struct {
	// Source is a directory, an archive (.tar.gz), or the http or https URL of one; ""
	// is the policy that is built in.
	Source string
	// Key is the public key of who signs bundles: ECDSA on P-256, in PEM. Without one
	// the source is a path on this machine, and who may write there may change it.
	Key []byte
	// Poll is how often a newer bundle is looked for; 30 s. A part of it is drawn.
	Poll time.Duration
	// Told is told of every bundle: the policy that it brought, or why it was not taken.
	// nil tells nobody. It is called by one goroutine at a time, at first before Start
	// returns.
	Told func(v Version, err error)
	// Client fetches from a URL; nil is one with a time limit.
	Client *http.Client
	// Limit bounds one evaluation; 1 s.
	Limit time.Duration
	// Unprepared has the policy compiled for every decision: a control of tests.
	Unprepared bool
}

const (
	defaultPoll = 30 * time.Second
	// firstPoll is how often a bundle is looked for while there is none.
	firstPoll = time.Second
	fetchMax  = 20 * time.Second
	// bundleMax bounds a bundle, packed and each file of it.
	bundleMax = 8 << 20
)

// Start returns an engine under the policy of the source, and keeps it under the
// newest. From a URL of which nothing can be had yet it has no policy, decides nothing,
// and looks again every second.
func Start(cfg Config, rng prng.Source) (*Engine, error) {
	k, err := keep(cfg, rng, admission)
	if err != nil {
		return nil, err
	}
	return &Engine{k}, nil
}

func keep(cfg Config, rng prng.Source, asked question) (*keeper, error) {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: fetchMax, Transport: &http.Transport{Proxy: nil}}
	}
	if cfg.Told == nil {
		cfg.Told = func(Version, error) {}
	}
	asked.limit = cmp.Or(cfg.Limit, evalMax)
	s := &source{Config: cfg, file: asked.file}
	if s.remote() && len(cfg.Key) == 0 {
		return nil, fmt.Errorf("policy bundle %s: a bundle from elsewhere must be signed: name the file of the signer's public key", cfg.Source)
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &keeper{asked: asked, stop: stop, done: make(chan struct{}), unprepared: cfg.Unprepared}
	if err := e.load(ctx, s); err != nil && !s.remote() {
		stop()
		return nil, fmt.Errorf("policy bundle %s: %w", s.name(), err)
	}
	if cfg.Source == "" {
		close(e.done)
		return e, nil
	}
	draw := rng.Stream("poll")
	go func() {
		defer close(e.done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(e.pause(cfg.Poll, draw)):
			}
			e.load(ctx, s)
		}
	}()
	return e, nil
}

// pause is until the next look for a bundle.
func (e *keeper) pause(poll time.Duration, draw *prng.Stream) time.Duration {
	if e.active.Load() == nil {
		return min(poll, firstPoll)
	}
	return poll*3/4 + time.Duration(draw.Uint64N(uint64(poll/2)))
}

// load takes the bundle of the source if it is another than the last one seen.
func (e *keeper) load(ctx context.Context, s *source) error {
	b, err := s.read(ctx)
	if errors.Is(err, errSame) || ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = e.take(ctx, b)
	}
	e.told(err)
	if err != nil {
		s.Told(Version{}, err)
		return err
	}
	s.Told(e.active.Load().Version, nil)
	return nil
}

// source reads bundles.
type source struct {
	Config
	file string         // of the policy that is built in
	tag  string         // of the last one that was fetched
	last []byte         // its bytes
	seen *bundle.Bundle // the last of a directory; nil after a fault
}

// errSame says that a bundle has been seen.
var errSame = errors.New("the same bundle")

func (s *source) remote() bool {
	return strings.HasPrefix(s.Source, "http://") || strings.HasPrefix(s.Source, "https://")
}

func (s *source) name() string {
	if s.Source == "" {
		return "built in"
	}
	return s.Source
}

func (s *source) read(ctx context.Context) (*bundle.Bundle, error) {
	if s.Source == "" {
		return shipped(s.file)
	}
	if !s.remote() {
		if info, err := os.Stat(s.Source); err != nil {
			return nil, err
		} else if info.IsDir() {
			b, err := s.parse(bundle.NewCustomReader(bundle.NewDirectoryLoader(s.Source)))
			if err == nil && s.seen != nil && s.seen.Equal(*b) {
				return nil, errSame
			}
			s.seen = b
			return b, err
		}
	}
	b, err := s.bytes(ctx)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(b, s.last) {
		return nil, errSame
	}
	s.last = b
	return s.parse(bundle.NewReader(bytes.NewReader(b)))
}

// parse reads a bundle, and checks its signature if there is a key.
func (s *source) parse(r *bundle.Reader) (*bundle.Bundle, error) {
	r = r.WithSizeLimitBytes(bundleMax).WithRegoVersion(ast.RegoV1).WithCapabilities(capabilities())
	if len(s.Key) == 0 {
		r = r.WithSkipBundleVerification(true)
	} else {
		const id = "nyx"
		keys := map[string]*bundle.KeyConfig{id: {Key: string(s.Key), Algorithm: "ES256"}}
		r = r.WithBundleVerificationConfig(bundle.NewVerificationConfig(keys, id, "", nil))
	}
	b, err := r.Read()
	if err != nil {
		return nil, err
	}
	return &b, nil
}

// bytes fetches an archive.
func (s *source) bytes(ctx context.Context) ([]byte, error) {
	if !s.remote() {
		f, err := os.Open(s.Source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAll(f)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Source, nil)
	if err != nil {
		return nil, err
	}
	if s.tag != "" {
		req.Header.Set("If-None-Match", s.tag)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		b, err := readAll(resp.Body)
		if err == nil {
			s.tag = resp.Header.Get("ETag")
		}
		return b, err
	case http.StatusNotModified:
		return nil, errSame
	}
	return nil, fmt.Errorf("the server answers %s", resp.Status)
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, bundleMax+1))
	if err == nil && len(b) > bundleMax {
		err = fmt.Errorf("more than %d MiB", bundleMax>>20)
	}
	return b, err
}

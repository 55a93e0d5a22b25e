package cache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// answerMax is how long a server may take: to make a bucket anew takes less.
	answerMax = 50 * time.Millisecond
	// rest is how long a server that failed is not asked.
	rest = time.Second
	// connectMax bounds a connection, which nobody waits for.
	connectMax = 5 * time.Second
)

// Redis is a Cache in a server that speaks the Redis protocol. Without the server,
// or with a slow one, everything goes on as if nothing were kept: each fault is
// counted, and then the server is left alone for a second.
type Redis struct {
	counts
	option rueidis.ClientOption
	prefix string

	client atomic.Pointer[rueidis.Client] // nil until there is a connection
	until  atomic.Int64                   // nanoseconds since begun in which it is not asked
	begun  time.Time
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	dialing bool
	running sync.WaitGroup
}

// NewRedis returns a cache in the server at a URL, redis://[user:password@]host:port[/db]
// or rediss:// for TLS, in which all keys begin with prefix. The server may come
// later, and go.
func NewRedis(url, prefix string) (*Redis, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	// The plainest form of the protocol, which every server has.
	option.AlwaysRESP2, option.DisableCache, option.ForceSingleClient, option.DisableRetry = true, true, true, true
	option.ClientSetInfo = rueidis.DisableClientSetInfo
	option.Dialer.Timeout = connectMax
	r := &Redis{option: option, prefix: prefix, begun: time.Now()}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.connect()
	return r, nil
}

// connect has a connection made, unless that is under way.
func (r *Redis) connect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dialing || r.ctx.Err() != nil {
		return
	}
	r.dialing = true
	r.running.Go(func() {
		client, err := rueidis.NewClient(r.option)
		if err == nil {
			r.client.Store(&client)
		} else {
			r.fault()
		}
		r.mu.Lock()
		r.dialing = false
		r.mu.Unlock()
	})
}

func (r *Redis) fault() {
	r.faults.Add(1)
	r.until.Store(int64(time.Since(r.begun) + rest))
}

// server returns the client of the server, or nil if it is not to be asked now.
func (r *Redis) server() rueidis.Client {
	if int64(time.Since(r.begun)) < r.until.Load() {
		r.skipped.Add(1)
		return nil
	}
	if c := r.client.Load(); c != nil {
		return *c
	}
	r.skipped.Add(1)
	r.connect()
	return nil
}

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool) {
	c := r.server()
	if c == nil {
		return r.found(nil, false)
	}
	asked, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	b, err := c.Do(asked, c.B().Get().Key(r.prefix+key).Build()).AsBytes()
	if err != nil && !rueidis.IsRedisNil(err) && ctx.Err() == nil {
		r.fault()
	}
	return r.found(b, err == nil)
}

// Set implements Cache.
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) {
	c := r.server()
	if c == nil {
		return
	}
	asked, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	set := c.B().Set().Key(r.prefix + key).Value(rueidis.BinaryString(value)).PxMilliseconds(max(ttl.Milliseconds(), 1)).Build()
	if err := c.Do(asked, set).Error(); err != nil && ctx.Err() == nil {
		r.fault()
	}
}

// Close implements Cache.
func (r *Redis) Close() {
	r.cancel()
	r.running.Wait()
	if c := r.client.Load(); c != nil {
		(*c).Close()
	}
}

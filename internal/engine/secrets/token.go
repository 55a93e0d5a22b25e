package secrets

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
)

// Times of a token.
const (
	// DefaultLease is the life of a token that is asked for.
	DefaultLease = 15 * time.Minute
	// issueMax bounds a login or a renewal.
	issueMax = 10 * time.Second
	// backOffMin and backOffMax bound the pause after a login that failed, which
	// doubles each time, less a random part of up to half.
	backOffMin, backOffMax = 250 * time.Millisecond, 30 * time.Second
	// marginMost is how long before its end a token is not used any more.
	marginMost = 5 * time.Second
)

// tokens holds the one token under which all requests of a process go: it logs in
// when it must, renews when a third of the lease is left, and does either once,
// however many wait for it.
type tokens struct {
	issue func(ctx context.Context, renew string) (issued, error) // renew "" is a login

	mu       sync.Mutex
	now      issued
	begun    time.Time     // of now
	pending  chan struct{} // closed when the login or renewal under way is over; nil: none
	failures int
	rest     time.Time // until which nothing is tried after a failure
	last     error     // of that failure
	figures  Figures
}

// issued is a token as the server gave it.
type issued struct {
	token     string
	lease     time.Duration
	renewable bool
}

// Figures are what a client of a secret server counts.
type Figures struct {
	// Logins is how long the server took to issue tokens, in µs.
	Logins trace.Values
	// Renewals and Failures count renewals, and logins and renewals that failed.
	Renewals, Failures uint64
}

func (t *tokens) counted() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.figures
}

// get returns a token that is good now.
func (t *tokens) get(ctx context.Context) (string, error) {
	for {
		t.mu.Lock()
		at := time.Now()
		age := at.Sub(t.begun)
		good := t.now.token != "" && age < t.now.lease-min(marginMost, t.now.lease/4)
		if t.pending == nil && (!good || age > t.now.lease*2/3) && !at.Before(t.rest) {
			t.begin(good)
		}
		token, pending, last, rest := t.now.token, t.pending, t.last, t.rest
		t.mu.Unlock()
		switch {
		case good:
			return token, nil
		case pending == nil:
			return "", fmt.Errorf("%w; the next try is in %v", last, rest.Sub(at).Round(100*time.Millisecond))
		}
		select {
		case <-pending:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// begin logs in, or renews the token, beside whoever asked. mu is held.
func (t *tokens) begin(good bool) {
	done := make(chan struct{})
	t.pending = done
	renew := ""
	if good && t.now.renewable {
		renew = t.now.token
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), issueMax)
		defer cancel()
		begun := time.Now()
		got, err := t.issue(ctx, renew)
		if renew != "" && (err != nil || got.lease < t.lease()/2) { // refused, or its last extension
			renew, begun = "", time.Now()
			got, err = t.issue(ctx, "")
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.finish(got, err, begun, renew != "")
		t.pending = nil
		close(done)
	}()
}

func (t *tokens) lease() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now.lease
}

// finish takes what a login or renewal has brought. mu is held.
func (t *tokens) finish(got issued, err error, begun time.Time, renewed bool) {
	if err != nil {
		t.figures.Failures++
		pause := min(backOffMin<<min(t.failures, 10), backOffMax)
		t.failures++
		t.last, t.rest = err, time.Now().Add(pause-shorter(pause/2))
		return
	}
	if renewed {
		t.figures.Renewals++
	} else {
		t.figures.Logins.Observe(uint64(time.Since(begun) / time.Microsecond))
	}
	t.now, t.begun = got, begun
	t.failures, t.last, t.rest = 0, nil, time.Time{}
}

// drop forgets a token that the server refused.
func (t *tokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now.token == token {
		t.now = issued{}
	}
}

// shorter is a random part of a pause, so that clients of a server that was away
// do not come back all at once.
func shorter(most time.Duration) time.Duration {
	var b [4]byte
	rand.Read(b[:])
	return time.Duration(uint64(most) * uint64(binary.BigEndian.Uint32(b[:])) >> 32)
}

// auth is the part of an answer that holds a token.
type auth struct {
	Auth struct {
		Token     string `json:"client_token"`
		Lease     int64  `json:"lease_duration"`
		Renewable bool   `json:"renewable"`
	} `json:"auth"`
}

// issueToken logs in by AppRole, or renews a token.
func (v *Vault) issueToken(ctx context.Context, renew string) (issued, error) {
	var answer auth
	var err error
	if renew != "" {
		err = v.once(ctx, http.MethodPost, "auth/token/renew-self", renew, map[string]any{"increment": int(v.cfg.Lease / time.Second)}, &answer)
	} else {
		var id []byte
		if id, err = v.cfg.SecretID(); err != nil {
			return issued{}, fmt.Errorf("cannot log in to the secret server: %w", err)
		}
		defer clear(id)
		err = v.once(ctx, http.MethodPost, "auth/"+v.cfg.AuthMount+"/login", "", map[string]any{"role_id": v.cfg.RoleID, "secret_id": string(id)}, &answer)
	}
	if err != nil {
		return issued{}, fmt.Errorf("cannot log in to the secret server: %w", err)
	}
	got := issued{answer.Auth.Token, time.Duration(answer.Auth.Lease) * time.Second, answer.Auth.Renewable}
	if got.token == "" || got.lease <= 0 {
		return issued{}, fmt.Errorf("cannot log in to the secret server: its answer holds no token with a lease; check the role's token_ttl")
	}
	return got, nil
}

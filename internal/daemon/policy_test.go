package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/wire"
)

// decider is a policy that says the same to all, or nothing.
type decider struct {
	decision control.Decision
	refuses  func(control.Question) bool // what it does not accept; nil: nothing
	err      error
	asked    atomic.Int64
	all      chan struct{} // closed when as many were asked as there are; nil: not
}

func (d *decider) Decide(_ context.Context, _ string, q control.Question) (control.Decision, error) {
	if d.asked.Add(1) == int64(control.NumQuestions) && d.all != nil {
		close(d.all)
	}
	said := d.decision
	if d.refuses != nil && d.refuses(q) {
		said.Refused = wire.RefusedFull
	}
	return said, d.err
}

// open is an OpenPolicy.
func (d *decider) open(_ string, _ prng.Source, told func(PolicyVersion, error)) (PolicyEngine, error) {
	told(PolicyVersion{Revision: d.decision.Revision, Digest: "of " + d.decision.Revision}, nil)
	return d, nil
}

func (d *decider) Close() {}

func TestPolicyHandlerRefusesWhatIsNoQuestion(t *testing.T) {
	d := &decider{decision: control.Decision{CacheFor: time.Minute}}
	h := policyHandler(d, nil)
	good := string((&control.Checks{Region: "eu", Questions: []control.Question{{Level: wire.High}}}).Encode())
	for _, c := range []struct {
		method, body string
		err          error
		status       int
	}{
		{http.MethodPost, good, nil, http.StatusOK},
		{http.MethodGet, "", nil, http.StatusMethodNotAllowed},
		{http.MethodPost, "{}", nil, http.StatusBadRequest},
		{http.MethodPost, strings.Repeat(" ", control.ChecksMax+1), nil, http.StatusBadRequest},
		{http.MethodPost, good, errors.New("the policy is broken"), http.StatusServiceUnavailable},
	} {
		d.err = c.err
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, PolicyPath, strings.NewReader(c.body)))
		if w.Code != c.status {
			b, _ := io.ReadAll(w.Body)
			t.Errorf("%s %.40s: %d %s", c.method, c.body, w.Code, b)
		}
	}
}

// A network on this machine whose entries ask a control plane: traffic flows under its
// decisions, of which each entry has all before it needs one.
func TestANetworkUnderAPolicy(t *testing.T) {
	d := &decider{decision: control.Decision{CacheFor: time.Minute, Revision: "7"}, all: make(chan struct{})}
	l := standNetwork(t, LocalConfig{Seed: [32]byte{5}, Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Fast}, Control: inMemory(newCompliance(), d)})
	select {
	case <-d.all:
	case <-time.After(patience):
		t.Errorf("%d questions were asked", d.asked.Load())
	}
	if err := l.Client.Err(); err != nil {
		t.Error(err)
	}
}

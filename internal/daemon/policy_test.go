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
	"github.com/nyxnet/nyx/internal/wire"
)

// decider is a policy that says the same to all, or nothing.
type decider struct {
	decision control.Decision
	err      error
	asked    atomic.Int64
}

func (d *decider) Decide(context.Context, string, control.Question) (control.Decision, error) {
	d.asked.Add(1)
	return d.decision, d.err
}

// handed is a client's way to handlers by host, without sockets.
type handed map[string]http.Handler

func (h handed) RoundTrip(r *http.Request) (*http.Response, error) {
	to := h[r.URL.Host]
	if to == nil {
		return nil, errors.New("nobody there")
	}
	w := httptest.NewRecorder()
	to.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestPolicyHandlerRefusesWhatIsNoQuestion(t *testing.T) {
	d := &decider{decision: control.Decision{CacheFor: time.Minute}}
	h := PolicyHandler(d)
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

// Who asks goes to the next control node when one is gone, and stays there.
func TestPolicyIsAskedWhereItAnswers(t *testing.T) {
	d := &decider{decision: control.Decision{CacheFor: time.Minute, Revision: "7"}}
	post := PostPolicy(&http.Client{Transport: handed{"b": PolicyHandler(d)}}, []string{"https://a", "https://b"})
	for range 2 {
		b, err := post(t.Context(), (&control.Checks{Region: "eu", Questions: []control.Question{{}}}).Encode())
		got, _ := control.ParseDecisions(b, 1)
		if err != nil || len(got) != 1 || got[0].Revision != "7" {
			t.Fatalf("%s, %v", b, err)
		}
	}
	none := PostPolicy(&http.Client{Transport: handed{}}, []string{"https://a"})
	if _, err := none(t.Context(), []byte("{}")); err == nil {
		t.Error("an answer of nobody")
	}
}

// A network on this machine whose entries ask a control plane: traffic flows under
// its decisions.
func TestANetworkUnderAPolicy(t *testing.T) {
	d := &decider{decision: control.Decision{CacheFor: time.Minute}}
	post := PostPolicy(&http.Client{Transport: handed{"control": PolicyHandler(d)}}, []string{"https://control"})
	l, err := StartLocal(LocalConfig{Seed: [32]byte{5}, Streams: 2, Mixes: 3, Client: client.Config{Level: wire.Fast},
		AskPolicy: func(ctx context.Context, b []byte) ([]byte, error) { return post(ctx, b) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	select {
	case <-l.Client.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("not ready: %v", l.Client.Err())
	}
	if d.asked.Load() == 0 {
		t.Error("nobody asked the control plane")
	}
}

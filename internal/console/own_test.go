package console

import (
	"bufio"
	"encoding/json"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"
)

// by signs somebody in at an issuer.
func (i *issuer) by(b *board) *browser {
	b.Helper()
	w := b.browser()
	i.redeemed = 0
	r, _ := w.get("/oidc/return?" + i.begins(b.T, w).Encode())
	want(b.T, "signing in at the issuer", r, http.StatusOK)
	w.takeToken()
	return w
}

// sent is an event as a page takes it.
type sent struct {
	Text, State map[string]string
	Meter       map[string]float64
	Point       map[string]*float32
}

// event is the next that a page of somebody is sent in which time has passed.
func (w *browser) event() (out sent) {
	w.Helper()
	resp, err := w.Do(w.request(http.MethodGet, "/live", nil).WithContext(w.Context()))
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if data, ok := strings.CutPrefix(s.Text(), "data: "); ok {
			out = sent{}
			if err := json.Unmarshal([]byte(data), &out); err != nil {
				w.Fatal(err)
			}
			if out.Point["carried"] != nil {
				return out
			}
			w.advance(time.Second)
		}
	}
	w.Fatal("the stream ended")
	return out
}

// TestTheOwnClientIsItsOwnersToSee: whom an issuer signs in, as an admin too, is shown
// the network and nothing of this machine's client: neither on pages nor in events, nor
// in charts.
func TestTheOwnClientIsItsOwnersToSee(t *testing.T) {
	b, i := withIssuer(t)
	i.role = Admin
	b.live.mu.Lock()
	b.live.ring.put(b.clock().Unix()/10-1, sample{p95: 12, carried: 3, own: 2, asked: 5, failed: 1, sessions: 1, cover: 0.2})
	b.live.mu.Unlock()
	owner, other := b.as(Viewer), i.by(b)
	for path, own := range map[string]string{"/sessions": "12 ms", "/routes": "<li>mix-0</li>", "/": `<b data-live-text="sessions">1</b>`} {
		none := html.EscapeString(say("en", "none.others"))
		if _, page := owner.get(path); !strings.Contains(page, own) || strings.Contains(page, none) {
			t.Errorf("%s does not show its owner %q:\n%s", path, own, page)
		}
		if _, page := other.get(path); strings.Contains(page, own) || !strings.Contains(page, none) {
			t.Errorf("%s shows others %q, or does not say why not:\n%s", path, own, page)
		}
	}

	mine, theirs := owner.event(), other.event()
	if mine.Text["sessions"] != "1" || mine.Text["asked"] != "5" || mine.Point["sessions"] == nil {
		t.Errorf("the owner's event lacks the own client: %+v", mine)
	}
	for _, place := range ownPlaces {
		if theirs.Text[place] != "—" || theirs.Point[place] != nil || strings.Contains("ok warn bad", theirs.State[place]) && theirs.State[place] != "" {
			t.Errorf("others are told %s: %q", place, theirs.Text[place])
		}
	}
	if _, told := theirs.Meter["budget"]; told || theirs.Text["node.mix-0.rate"] == "" || theirs.Point["carried"] == nil {
		t.Errorf("others are told the budget, or nothing of the network: %+v", theirs)
	}

	history := func(w *browser) (s series) {
		_, body := w.get("/history?span=1h")
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := history(owner); len(s.T) == 0 || s.P95[0] == nil || *s.Own[0] != 2 {
		t.Errorf("the owner's charts lack the own client: %+v", s)
	}
	s := history(other)
	if len(s.T) == 0 || s.Carried[0] == nil {
		t.Errorf("the charts of others lack the network: %+v", s)
	}
	for name, column := range map[string][]*float32{"p95": s.P95, "own": s.Own, "sessions": s.Sessions, "cover": s.Cover, "failed": s.Failed} {
		for at := range s.T {
			if column[at] != nil {
				t.Errorf("others are given %s", name)
			}
		}
	}
}

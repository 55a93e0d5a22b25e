package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/metric"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/spool"
)

var errAway = errors.New("nobody is there")

// place is who collects, in memory. It belongs to the bubble of its test.
type place struct {
	away   bool
	status int           // 0: it takes
	moved  int           // with which it sends elsewhere, where all is taken; 0: it does not
	poison string        // body with which it fails
	takes  time.Duration // for an answer
	got    []string      // bodies, as they came
	at     []time.Time
	asked  int
	header http.Header // of the last request
}

func (p *place) RoundTrip(r *http.Request) (*http.Response, error) {
	p.asked++
	p.header = r.Header
	select {
	case <-time.After(p.takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if p.away {
		return nil, errAway
	}
	status, header := http.StatusOK, http.Header{}
	var b []byte
	if r.Body != nil {
		b, _ = io.ReadAll(r.Body)
	}
	switch {
	case p.moved != 0 && r.URL.Host == "place":
		status = p.moved
		header.Set("Location", "http://elsewhere/")
	case p.status != 0:
		status = p.status
	case p.poison != "" && string(b) == p.poison:
		status = http.StatusInternalServerError
	default:
		p.got, p.at = append(p.got, string(b)), append(p.at, time.Now())
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: header, Body: io.NopCloser(strings.NewReader("says why"))}, nil
}

// telling is a Pusher that tells a number and the time, every interval.
func telling(t *testing.T, to *place, every time.Duration, s *spool.Spool, failed func(error)) *Pusher {
	n := 0
	return Start(Config{Name: "test", URL: "http://place/", Header: http.Header{"X-Test": {"is there"}}, Every: every, Spool: s, Failed: failed, Transport: to,
		Bearer: func(context.Context) (string, error) { return "word", nil },
		Gather: func(now time.Time) []byte {
			n++
			return fmt.Appendf(nil, "%d at %d", n, now.Unix())
		}})
}

func opened(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, &seal.Key{1}, spool.Limits{Age: 24*time.Hour + time.Minute, Bytes: 256 << 20}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// numbers are those of the bodies, as they came.
func (p *place) numbers() (n []int) {
	for _, b := range p.got {
		var i, at int
		fmt.Sscanf(b, "%d at %d", &i, &at)
		n = append(n, i)
	}
	return n
}

// What is under way when a Pusher ends arrives, and so does what is left: without a spool it
// would be lost. A place that does not answer holds the end up for two seconds. (Control:
// where Close cuts the request that is under way, the first body is lost.)
func TestWhatIsUnderWayAtTheEndArrives(t *testing.T) {
	for takes, got := range map[time.Duration][]int{800 * time.Millisecond: {1, 2}, time.Minute: nil} {
		synctest.Test(t, func(t *testing.T) {
			to := &place{takes: takes}
			p := telling(t, to, 15*time.Second, nil, nil)
			time.Sleep(15*time.Second + time.Millisecond)
			begun := time.Now()
			p.Close()
			if took := time.Since(begun); !slices.Equal(to.numbers(), got) || took > 2*endMost {
				t.Errorf("of a place that takes %v: bodies %v came, and the end took %v", takes, to.numbers(), took)
			}
		})
	}
}

// A collector is away for 24 hours, one body every 15 s: when it is there again, which takes
// 150 ms for each, all of them have arrived within the hour, the oldest first, each with the
// time of what it tells; and what is live meanwhile comes as it always does.
func TestADayIsFlushedWithinTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 15 * time.Second
		begun := time.Now()
		to, s := &place{away: true, takes: 150 * time.Millisecond}, opened(t, t.TempDir())
		p := telling(t, to, every, s, nil)
		time.Sleep(24*time.Hour + time.Second)
		kept := s.Figures().Batches
		if kept < int(24*time.Hour/every)-1 {
			t.Fatalf("%d bodies are kept", kept)
		}
		to.away = false
		back := time.Now()
		time.Sleep(time.Hour)
		flushed := time.Duration(-1)
		late, lastLive, gap := 0, back, time.Duration(0)
		for i, n := range to.numbers() {
			if n > kept { // live
				gap, lastLive = max(gap, to.at[i].Sub(lastLive)), to.at[i]
				continue
			}
			if late++; n != late {
				t.Fatalf("body %d came as number %d of the backlog", n, late)
			}
			flushed = to.at[i].Sub(back)
			if want := fmt.Sprintf("%d at %d", n, begun.Add(time.Duration(n)*every).Unix()); i < 10 && to.got[i] != want {
				t.Errorf("%q, want %q", to.got[i], want)
			}
		}
		if late != kept || s.Figures().Batches != 0 || flushed > time.Hour {
			t.Errorf("%d of %d after %v, %d are left", late, kept, flushed, s.Figures().Batches)
		}
		if gap > every+200*time.Millisecond { // one body of the backlog, and no more, was before it
			t.Errorf("nothing live for %v", gap)
		}
		p.Close()
		t.Logf("%d bodies of a day are there %v after the return; live ones are at most %v apart", late, flushed.Round(time.Second), gap)
	})
}

// What a body becomes: taken, kept while nobody takes it, given up if it never will be; and
// why is told once. A process that ends keeps what it could not tell, and the next one tells
// it.
func TestWhatBecomesOfABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, dir := &place{}, t.TempDir()
		var why []error
		s := opened(t, dir)
		p := telling(t, to, time.Minute, s, func(err error) { why = append(why, err) })
		time.Sleep(time.Minute + time.Second)
		if len(to.got) != 1 || to.header.Get("Authorization") != "Bearer word" || to.header.Get("X-Test") != "is there" {
			t.Errorf("%q, %v", to.got, to.header)
		}
		to.status = http.StatusUnauthorized // somebody repairs the token
		time.Sleep(2 * time.Minute)
		to.status = http.StatusBadRequest
		time.Sleep(time.Minute)
		if f := s.Figures(); f.Batches != 2 || len(why) != 1 || !strings.Contains(why[0].Error(), "test: 401: says why") {
			t.Errorf("%+v, %v", f, why)
		}
		asked := to.asked
		time.Sleep(50 * time.Second)
		if to.asked != asked {
			t.Errorf("the backlog was sent %d times to who takes nothing", to.asked-asked)
		}
		to.away = true
		p.Close()
		q := &place{}
		p2 := telling(t, q, time.Minute, opened(t, dir), nil)
		time.Sleep(100 * time.Second)
		p2.Close()
		var names []string
		for _, b := range q.got {
			name, _, _ := strings.Cut(b, " ")
			names = append(names, name)
		}
		if got := strings.Join(names, " "); got != "1 2 3 5 2" {
			t.Errorf("the next process told %q", got)
		}
		page := &metric.Page{}
		p.Figures(page)
		p2.Figures(page)
		for _, want := range []string{`telemetry_pushed_total{to="test",when="live"} 1`, `telemetry_pushed_total{to="test",when="live"} 2`, `telemetry_pushed_total{to="test",when="late"} 3`,
			`telemetry_push_lost_total{to="test",why="refused"} 1`, `telemetry_spool_batches{to="test"} 3`} {
			if !strings.Contains(page.String(), want+"\n") {
				t.Errorf("no %s in\n%s", want, page)
			}
		}
	})
}

// A body of the backlog that will never be taken does not hold up those behind it; one that
// is not taken now stays, in its place.
func TestABodyThatIsRefusedHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, s := &place{}, opened(t, t.TempDir())
		for i := range 20 {
			if err := s.Put(time.Now(), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		p := telling(t, to, time.Minute, s, nil)
		time.Sleep(time.Minute + 550*time.Millisecond) // 1 live, and 6 of the backlog
		to.status = http.StatusBadRequest
		time.Sleep(500 * time.Millisecond)
		to.status = http.StatusTooManyRequests
		time.Sleep(time.Second)
		if f := s.Figures(); f.Batches != 9 {
			t.Errorf("%d are left", f.Batches)
		}
		to.status = 0
		time.Sleep(2*time.Minute - time.Second)
		p.Close()
		if n := to.numbers(); len(to.got) != 1+6+9+2+1 || n[1] != 0 || n[6] != 5 || n[8] != 11 {
			t.Errorf("%d", n)
		}
	})
}

// Without a spool what is not taken is lost, and counted.
func TestWithoutASpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &place{away: true}
		p := telling(t, to, time.Minute, nil, nil)
		time.Sleep(150 * time.Second)
		to.away = false
		p.Close()
		page := &metric.Page{}
		p.Figures(page)
		if len(to.got) != 1 || !strings.Contains(page.String(), `telemetry_push_lost_total{to="test",why="away"} 2`) {
			t.Errorf("%q\n%s", to.got, page)
		}
	})
}

// A body of the backlog with which the place fails each time is given up when live ones have
// been taken in between, and those behind it are told; a live one with which it fails is not.
func TestABodyWithWhichThePlaceFailsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, s := &place{poison: "poison"}, opened(t, t.TempDir())
		for _, b := range []string{"poison", "behind it"} {
			if err := s.Put(time.Now(), []byte(b)); err != nil {
				t.Fatal(err)
			}
		}
		p := telling(t, to, time.Minute, s, nil)
		time.Sleep(2*time.Minute + 30*time.Second)
		if s.Figures().Batches != 2 {
			t.Errorf("given up after two times: %+v", s.Figures())
		}
		time.Sleep(time.Minute)
		if len(to.got) != 4 || to.got[3] != "behind it" || s.Figures().Batches != 0 {
			t.Errorf("%q, %+v", to.got, s.Figures())
		}
		to.status = http.StatusInternalServerError
		time.Sleep(10 * time.Minute)
		if s.Figures().Batches != 10 {
			t.Errorf("%+v", s.Figures())
		}
		p.Close()
	})
}

// A place that sends elsewhere has taken nothing: the body is kept, who is elsewhere gets
// neither it nor the token, and why is told.
func TestARedirectionIsNotFollowed(t *testing.T) {
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		synctest.Test(t, func(t *testing.T) {
			to, s := &place{moved: status}, opened(t, t.TempDir())
			var why []error
			p := telling(t, to, time.Minute, s, func(err error) { why = append(why, err) })
			time.Sleep(time.Minute + time.Second)
			if f := s.Figures(); to.asked != 1 || len(to.got) != 0 || f.Batches != 1 || len(why) != 1 {
				t.Errorf("%d: %d requests, %q taken, %+v, %v", status, to.asked, to.got, f, why)
			}
			to.moved = 0
			time.Sleep(time.Minute + time.Second)
			if n := to.numbers(); len(n) != 2 || n[0] != 2 || n[1] != 1 {
				t.Errorf("%d: %d came in the end", status, n)
			}
			p.Close()
		})
	}
}

// Where nothing is told any more, a backlog is sent all the same when somebody is there; as
// long as nobody is, one body is tried each interval, and none is given up for it.
func TestABacklogNeedsNothingLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, s := &place{status: http.StatusInternalServerError}, opened(t, t.TempDir())
		for i := range 5 {
			if err := s.Put(time.Now(), fmt.Appendf(nil, "%d at 0", i)); err != nil {
				t.Fatal(err)
			}
		}
		p := Start(Config{Name: "test", URL: "http://place/", Every: time.Minute, Spool: s, Transport: to, Gather: func(time.Time) []byte { return nil }})
		time.Sleep(10*time.Minute + time.Second)
		if to.asked != 10 || s.Figures().Batches != 5 {
			t.Errorf("asked %d times, %+v", to.asked, s.Figures())
		}
		to.status = 0
		time.Sleep(time.Minute)
		if n := to.numbers(); fmt.Sprint(n) != "[0 1 2 3 4]" || s.Figures().Batches != 0 {
			t.Errorf("%d, %+v", n, s.Figures())
		}
		p.Close()
	})
}

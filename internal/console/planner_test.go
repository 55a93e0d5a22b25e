package console

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestPlannerSaysWhatDecides: the plan of every level, what asks for so many nodes, and
// what lies beyond the plan.
func TestPlannerSaysWhatDecides(t *testing.T) {
	b := newBoard(t, nil)
	w := b.as(Viewer)
	row := regexp.MustCompile(`<tr(?: class="on")?><th scope="row">[^<]*</th><td class="num[^"]*">([^<]*)</td><td class="num[^"]*">([^<]*)</td></tr>`)
	for _, c := range []struct {
		query          string
		streams, mixes string
		beyond         bool
	}{
		{"sessions=100000", "1 50 2 the plan's ratio", "1 75 3 the plan's ratio", false},
		{"sessions=100001&level=fast", "1 51 2 the plan's ratio", "1 76 3 the plan's ratio", false},
		{"sessions=100000&level=standard", "74 50 2 the measured cost", "111 75 3 the measured cost", false},
		{"sessions=100000&level=high", "74 50 2 the measured cost", "111 75 3 the measured cost", false},
		{"sessions=100000&level=extreme", "74 50 2 the measured cost", "185 75 5 the measured cost", false},
		{"sessions=1", "1 1 2 what a route needs", "1 1 3 what a route needs", false},
		{"sessions=1000001", "", "", true},
		{"sessions=100000&level=extreme&cores=0.01", "", "", true},
	} {
		r, page := w.get("/planner?" + c.query)
		want(t, c.query, r, http.StatusOK)
		page = html.UnescapeString(page)
		rows := row.FindAllStringSubmatch(page, -1)
		if len(rows) != 4 {
			t.Fatalf("%s: rows %q", c.query, rows)
		}
		for i, want := range []string{c.streams, c.mixes} {
			var got []string
			for _, r := range rows {
				got = append(got, r[1+i])
			}
			if got := strings.Join(got, " "); want != "" && got != want {
				t.Errorf("%s: %s, want %s", c.query, got, want)
			}
		}
		if strings.Contains(page, "beyond the plan's largest phase") != c.beyond {
			t.Errorf("%s: whether it is beyond the plan", c.query)
		}
	}
	for query, says := range map[string]string{"level=HIGHEST": "error.level", "level=0": "error.level", "cores=0": "error.cores", "cores=NaN": "error.cores", "cores=1e-300": "error.cores", "sessions=0": "error.sessions"} {
		r, page := w.get("/planner?" + query)
		want(t, query, r, http.StatusBadRequest)
		if !strings.Contains(page, say("en", says)) {
			t.Errorf("%s does not say %q", query, say("en", says))
		}
	}
}

package servers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Samples of a series are added up, by labels, and those of another whose name begins
// alike are not.
func TestSum(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `# TYPE a_total counter
a_total{of="x",to="1"} 2
a_total{of="y",to="1"} 3e2
a_total_more{of="x"} 7
b 5
`)
	}))
	defer s.Close()
	for _, c := range []struct {
		name string
		with []string
		want float64
	}{{"a_total", nil, 302}, {"a_total", []string{`of="x"`, `to="1"`}, 2}, {"b", nil, 5}, {"c", nil, 0}} {
		if got, err := Sum(t.Context(), s.URL, c.name, c.with...); err != nil || got != c.want {
			t.Errorf("%s %v: %v, %v; want %v", c.name, c.with, got, err, c.want)
		}
	}
}

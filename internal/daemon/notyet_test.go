package daemon

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
)

// Who has not read so much of the logs yet says so, and not that there is no such
// thing, for which it would be left aside. (Control: where handleLogs answers every
// error with 404.)
func TestCopiesThatLagSaySo(t *testing.T) {
	s, err := newSigner(prng.FromUint64(1), "authority")
	if err != nil {
		t.Fatal(err)
	}
	trust := directory.Trust{Network: "lagging", Authorities: [][]byte{s.Public()}, Threshold: 1}
	copies, err := newWatcher(&trust, nil, "", nil, logOrNone(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	handleLogs(mux, nil, copies)
	mark := markPath(directory.Mark{Epoch: 7, Revision: 1})
	for path, want := range map[string]int{
		"proof/" + mark:                         mirror.StatusNotYet,
		"proof/" + strings.TrimRight(mark, "0"): http.StatusNotFound,
		"consistency/" + logID(translog.Origin(trust.Network, s.Public())) + "/1/2": mirror.StatusNotYet,
		"consistency/" + logID(translog.Origin(trust.Network, s.Public())) + "/a/b": http.StatusNotFound,
	} {
		got := httptest.NewRecorder()
		mux.ServeHTTP(got, httptest.NewRequest(http.MethodGet, logPath+path, nil))
		if got.Code != want {
			t.Errorf("%s: %d, not %d", path, got.Code, want)
		}
	}
}

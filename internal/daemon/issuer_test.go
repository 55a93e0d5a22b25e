package daemon

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

const passLife = 24 * time.Hour

// noon is a time that is not at the edge of a period.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// byName knows who asks by what stands in the header.
func byName(r *http.Request, _ []byte) (string, error) {
	name, ok := BearerOf(r)
	if !ok || !strings.HasPrefix(name, "user-") {
		return "", errors.New("no user")
	}
	return name, nil
}

func testIssuer(t *testing.T, dir string) IssuerConfig {
	t.Helper()
	signer, err := newSigner(prng.FromUint64(70), "issuer")
	if err != nil {
		t.Fatal(err)
	}
	return IssuerConfig{Network: localName, Signer: signer, Life: passLife, PerHour: 8, Identify: byName, Class: "oidc", Dir: dir}
}

func openedIssuer(t *testing.T, dir string, at time.Time) *issuer {
	t.Helper()
	i, err := openIssuer(testIssuer(t, dir), at, logOrNone(nil))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// asked asks for n passes as somebody.
func (i *issuer) asked(t *testing.T, who string, n int) (*httptest.ResponseRecorder, *pass.Order) {
	t.Helper()
	key, ok := i.signing(time.Now())
	if !ok {
		t.Fatal("no key")
	}
	order, err := pass.NewOrder(rand.Reader, localName, key.Public(), make([]wire.NodeID, n), blinder)
	if err != nil {
		t.Fatal(err)
	}
	return i.posted(who, order.Body()), order
}

func (i *issuer) posted(who string, body []byte) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	i.register(mux)
	r := httptest.NewRequest(http.MethodPost, passesPath, bytes.NewReader(body))
	if who != "" {
		r.Header.Set("Authorization", bearerScheme+who)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

// An issuer signs for who is known, as much as one gets in an hour, and nothing else.
func TestIssuer(t *testing.T) {
	i := openedIssuer(t, t.TempDir(), time.Now())
	w, order := i.asked(t, "user-a", 5)
	passes, err := order.Finish(w.Body.Bytes())
	if w.Code != http.StatusOK || err != nil || len(passes) != 5 {
		t.Fatalf("%d %v", w.Code, err)
	}
	for name, c := range map[string]struct {
		who    string
		n      int
		status int
	}{
		"more than there are in an hour": {"user-a", 4, http.StatusTooManyRequests},
		"the rest":                       {"user-b", 8, http.StatusOK},
		"nobody":                         {"", 1, http.StatusUnauthorized},
		"somebody else":                  {"admin", 1, http.StatusUnauthorized},
	} {
		if w, _ := i.asked(t, c.who, c.n); w.Code != c.status || (w.Header().Get("Retry-After") != "") != (c.status == http.StatusTooManyRequests) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	other := order.Body()
	other = append(append([]byte{}, other[:2]...), append([]byte{other[2] + 1}, other[3:]...)...)
	for name, c := range map[string]struct {
		body   []byte
		status int
	}{
		"nothing":       {nil, http.StatusBadRequest},
		"half a batch":  {order.Body()[:300], http.StatusBadRequest},
		"too much":      {make([]byte, wire.PassBatchMax*wire.PassRequestSize+1), http.StatusBadRequest},
		"another key":   {other, http.StatusConflict},
		"not a message": {append(order.Body()[:3:3], bytes.Repeat([]byte{0xff}, 256)...), http.StatusBadRequest},
	} {
		if w := i.posted("user-c", c.body); w.Code != c.status {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// What is told counts, by class and reason, and names nobody.
func TestIssuerTellsCounts(t *testing.T) {
	i := openedIssuer(t, t.TempDir(), time.Now())
	i.asked(t, "user-a", 5)
	i.asked(t, "user-b", 3)
	i.asked(t, "user-a", 5)
	i.asked(t, "", 1)
	told := map[string]uint64{}
	draw := prng.FromUint64(1).Stream("events")
	err := i.counts.tell(func(e *audit.Event) { complete(e, "control", draw) }, func(events ...audit.Event) error {
		for _, e := range events {
			if err := e.Validate(); err != nil || e.Detail("class") != "oidc" {
				t.Errorf("%+v: %v", e, err)
			}
			if b := audit.Append(nil, &e); bytes.Contains(b, []byte("user-")) {
				t.Errorf("an event names who asked: %q", b)
			}
			told[e.Action+e.Reason] = e.Count
		}
		return nil
	})
	if err != nil || told["issue"] != 8 || told["refuserate"] != 1 || told["refuseidentity"] != 1 || len(told) != 3 {
		t.Errorf("told %v", told)
	}
}

// Where nobody has a name each address has passes of its own: who takes all of an hour
// leaves the others theirs. (Control: with one quota for all, the others get none.)
func TestPassesOfAnAddress(t *testing.T) {
	key := &seal.Key{1}
	for to, known := range map[string]Identify{"open": nil, "key": identifyHolder(key)} {
		cfg := testIssuer(t, t.TempDir())
		cfg.Identify, cfg.Class = known, to
		i, err := openIssuer(cfg, time.Now(), logOrNone(nil))
		if err != nil {
			t.Fatal(err)
		}
		signing, ok := i.signing(time.Now())
		if !ok {
			t.Fatal("no key")
		}
		for _, c := range []struct {
			from   string
			n      int
			status int
		}{
			{"192.0.2.1:1000", 8, http.StatusOK},
			{"192.0.2.1:2000", 1, http.StatusTooManyRequests},
			{"[::ffff:192.0.2.1]:3000", 1, http.StatusTooManyRequests},
			{"192.0.2.2:1000", 8, http.StatusOK},
			{"[2001:db8::1]:1000", 5, http.StatusOK},
			{"[2001:db8::2]:1000", 5, http.StatusTooManyRequests}, // of the same /64
			{"[2001:db8:1::1]:1000", 5, http.StatusOK},
			{"nowhere", 8, http.StatusOK},
			{"elsewhere", 1, http.StatusTooManyRequests},
		} {
			order, err := pass.NewOrder(rand.Reader, localName, signing.Public(), make([]wire.NodeID, c.n), blinder)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, passesPath, nil)
			r.RemoteAddr = c.from
			r.Header.Set("Authorization", keyProof(key, order.Body()))
			status := http.StatusOK
			if _, why := i.issue(r, order.Body(), time.Now()); why != nil {
				status = why.status
			}
			if status != c.status {
				t.Errorf("%s: %d for %s, want %d", to, status, c.from, c.status)
			}
		}
	}
}

// All who have no name get so many together, however many addresses they have; who has a
// name is not counted with them. (Control: without that bound the third address gets its
// own.)
func TestPassesOfAllAddresses(t *testing.T) {
	keys := t.TempDir()
	for _, c := range []struct {
		all    int
		known  Identify
		status int
	}{{20, nil, http.StatusTooManyRequests}, {0, nil, http.StatusOK}, {20, byName, http.StatusOK}} {
		cfg := testIssuer(t, keys)
		cfg.PerHourAll, cfg.Identify = c.all, c.known
		i, err := openIssuer(cfg, noon, logOrNone(nil))
		if err != nil {
			t.Fatal(err)
		}
		key, _ := i.signing(noon)
		for n, want := range []int{http.StatusOK, http.StatusOK, c.status} {
			order, err := pass.NewOrder(rand.Reader, localName, key.Public(), make([]wire.NodeID, cfg.PerHour), blinder)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, passesPath, nil)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1000", n)
			r.Header.Set("Authorization", fmt.Sprintf("%suser-%d", bearerScheme, n))
			status, told := http.StatusOK, ""
			if _, why := i.issue(r, order.Body(), noon); why != nil {
				status, told = why.status, why.told
			}
			if status != want || (status == http.StatusTooManyRequests) != strings.Contains(told, "20 an hour are issued to all together") {
				t.Errorf("of %d, batch %d: %d %s, want %d", c.all, n, status, told, want)
			}
		}
	}
}

// Who holds the network's key proves it for one batch.
func TestHoldersAreKnown(t *testing.T) {
	key := &seal.Key{1}
	known := identifyHolder(key)
	ask := func(authorization string) error {
		r := httptest.NewRequest(http.MethodPost, passesPath, nil)
		r.Header.Set("Authorization", authorization)
		_, err := known(r, []byte("batch"))
		return err
	}
	if err := ask(keyProof(key, []byte("batch"))); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"no proof": "", "another batch": keyProof(key, []byte("other")), "another key": keyProof(&seal.Key{2}, []byte("batch")),
	} {
		if err := ask(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Keys turn with their periods: lists agree with each other, keys are there before they
// sign, outlive a restart, and go with the last of their passes.
func TestIssuerKeysTurn(t *testing.T) {
	dir := t.TempDir()
	i := openedIssuer(t, dir, noon)
	parse := func(i *issuer) *pass.Keys {
		t.Helper()
		keys, err := pass.ParseKeys(i.listed, localName, i.cfg.Signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	last := parse(i)
	if len(last.All()) != 2 {
		t.Fatalf("%d keys at first", len(last.All()))
	}
	for day := range 4 {
		at := noon.Add(time.Duration(day) * passLife)
		if _, err := i.turn(at); err != nil {
			t.Fatal(err)
		}
		keys := parse(i)
		if err := keys.Follows(last); err != nil {
			t.Errorf("day %d: %v", day, err)
		}
		now, _ := keys.Signing(at.Unix())
		if next, ok := keys.Signing(at.Add(passLife).Unix()); !ok || next.Public.ID() == now.Public.ID() {
			t.Errorf("day %d: tomorrow's key is not told", day)
		}
		if key, ok := i.signing(at); !ok || key.Public().ID() != now.Public.ID() {
			t.Errorf("day %d: another key signs than is told", day)
		}
		last = keys
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 3 {
		t.Errorf("%d keys are left: %v", len(files), files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a key's file has mode %v, %v", info.Mode(), err)
	}
	again := openedIssuer(t, dir, noon.Add(3*passLife))
	if err := parse(again).Follows(last); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	cfg := testIssuer(t, dir)
	if cfg.Life *= 2; true {
		if _, err := openIssuer(cfg, noon.Add(3*passLife), logOrNone(nil)); err == nil || !strings.Contains(err.Error(), "pass_life") {
			t.Errorf("with another life: %v", err)
		}
	}
}

// Keys are served to everybody, and only the issuer serves.
func TestKeysAreServed(t *testing.T) {
	i := openedIssuer(t, t.TempDir(), time.Now())
	mux := http.NewServeMux()
	i.register(mux)
	for _, c := range []struct {
		method string
		status int
	}{{http.MethodGet, http.StatusOK}, {http.MethodDelete, http.StatusMethodNotAllowed}} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(c.method, passKeysPath, nil))
		b, _ := io.ReadAll(w.Body)
		if w.Code != c.status || c.status == http.StatusOK && !bytes.Equal(b, i.listed) {
			t.Errorf("%s: %d", c.method, w.Code)
		}
	}
}

package daemon

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/blind"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// Paths of an issuer's interface (docs/control-plane.md). They are for clients, who do
// not introduce themselves.
const (
	passesPath   = controlPath + "passes"
	passKeysPath = controlPath + "pass-keys"
)

// IssuerConfig is an issuer of unlinkable tokens in a control process.
type IssuerConfig struct {
	Network string
	// Signer signs the list of keys.
	Signer *seal.Signer
	// Life is how long a key signs, in whole seconds; PerHour how many passes one gets, and
	// PerHourAll how many all get together who have no name; 0: as many as they are.
	Life                time.Duration
	PerHour, PerHourAll int
	// Identify tells who asks, "" for nobody with a name; nil: nobody has one. Those are
	// told by their addresses. Either is hashed with a key of the process and forgotten.
	Identify Identify
	// Class is by what they are known, for the audit log.
	Class string
	// Dir is where the keys are.
	Dir string
}

// Identify tells who asks for passes. Its error is told to who asks.
type Identify func(r *http.Request, body []byte) (who string, err error)

const (
	// keyGrace is how long a key is kept beyond its passes: clocks differ.
	keyGrace = int64(time.Hour / time.Second)
	// issuersAtOnce bounds the batches that are signed at a time: each takes a quarter
	// of a second of a processor.
	issuersAtOnce = 1
	// issuerTurn is how often is looked whether a key is due.
	issuerTurn = time.Minute
	passHour   = int64(time.Hour / time.Second)
)

// issuer signs passes. It keeps how many somebody got in this hour, and nothing of what
// it signed.
type issuer struct {
	cfg    IssuerConfig
	log    *slog.Logger
	secret seal.Key // under which names are hashed
	slots  chan struct{}

	mu     sync.Mutex
	quota  pass.Quota     // of each
	all    pass.Quota     // of all who have no name, of which each has some in quota
	keys   []periodKey    // the oldest first
	listed []byte         // signed
	counts *tally[string] // of passes that were issued, and of refusals
}

type periodKey struct {
	begins int64
	*blind.Signer
}

// openIssuer reads the keys of an issuer, and makes those that are due.
func openIssuer(cfg IssuerConfig, now time.Time, log *slog.Logger) (*issuer, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("issuer: cannot make the directory of its keys: %w", err)
	}
	i := &issuer{cfg: cfg, log: log, slots: make(chan struct{}, issuersAtOnce), counts: newTally(issuedEvent(cfg.Class))}
	i.quota, i.all = pass.Quota{Most: cfg.PerHour, Window: passHour}, pass.Quota{Most: cfg.PerHourAll, Window: passHour}
	systemEntropy().Stream("issuer").Read(i.secret[:])
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "*"+passKeySuffix))
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	for _, name := range names {
		key, err := readPeriodKey(name, i.life())
		if err != nil {
			return nil, fmt.Errorf("issuer: %s: %w", name, err)
		}
		i.keys = append(i.keys, key)
	}
	_, err = i.turn(now)
	return i, err
}

const passKeySuffix = ".passkey"

// life is how long a key signs, in seconds.
func (i *issuer) life() int64 { return int64(i.cfg.Life / time.Second) }

// path is the file of the key of a period, which says when that begins and how long it
// is.
func (i *issuer) path(begins int64) string {
	return filepath.Join(i.cfg.Dir, fmt.Sprintf("%d-%d%s", begins, i.life(), passKeySuffix))
}

// readPeriodKey reads a key of a life. Periods of two lengths would overlap, and two
// keys of one time tell clients apart.
func readPeriodKey(path string, life int64) (k periodKey, err error) {
	var of int64
	if _, err := fmt.Sscanf(filepath.Base(path), "%d-%d"+passKeySuffix, &k.begins, &of); err != nil {
		return k, errors.New("not the name of a key; remove the file")
	}
	if of != life {
		return k, fmt.Errorf("the key is of periods of %d s, and pass_life is %d s now; set it back, or remove the keys, by which the passes under them are lost", of, life)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return k, err
	}
	defer clear(b)
	if k.Signer, err = blind.Parse(b); err != nil {
		err = fmt.Errorf("%w; restore it from a copy, or remove it, by which the passes under it are lost", err)
	}
	return k, err
}

// turn has the keys of this period and the next, destroys those whose passes are good
// no more, and lists what there is. It reports whether a key signs that did not.
func (i *issuer) turn(now time.Time) (turned bool, err error) {
	life, unix := i.life(), now.Unix()
	begins := unix - unix%life
	i.mu.Lock()
	keys := slices.Clone(i.keys)
	listed := i.listed != nil
	i.mu.Unlock()
	for _, at := range []int64{begins, begins + life} {
		if slices.ContainsFunc(keys, func(k periodKey) bool { return k.begins == at }) {
			continue
		}
		key, err := blind.Generate()
		if err != nil {
			return false, err
		}
		b := key.Bytes()
		err = setup.ReplaceFile(i.path(at), b)
		clear(b)
		if err != nil {
			return false, fmt.Errorf("issuer: cannot keep its key: %w", err)
		}
		keys, turned = append(keys, periodKey{at, key}), true
	}
	slices.SortFunc(keys, func(a, b periodKey) int { return cmp.Compare(a.begins, b.begins) })
	old := slices.IndexFunc(keys, func(k periodKey) bool { return unix < k.begins+2*life+keyGrace })
	for _, k := range keys[:old] {
		if err := setup.Destroy(i.path(k.begins)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if keys = keys[old:]; listed && !turned && old == 0 {
		return false, nil
	}
	list := wire.PassKeys{Network: i.cfg.Network, Life: uint32(life), Issued: unix}
	for _, k := range keys[max(len(keys)-wire.PassKeysMax, 0):] {
		list.Keys = append(list.Keys, wire.PassKey{Begins: k.begins, Modulus: *k.Public().Modulus()})
	}
	signed, err := pass.SignKeys(i.cfg.Signer, &list)
	if err != nil {
		return false, err
	}
	i.mu.Lock()
	i.keys, i.listed = keys, signed
	i.mu.Unlock()
	return turned, nil
}

// signing is the key of this time.
func (i *issuer) signing(now time.Time) (periodKey, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	life, unix := i.life(), now.Unix()
	for _, k := range i.keys {
		if k.begins <= unix && unix < k.begins+life {
			return k, true
		}
	}
	return periodKey{}, false
}

func (i *issuer) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+passKeysPath, i.serveKeys)
	mux.HandleFunc("POST "+passesPath, i.serve)
}

func (i *issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	b := i.listed
	i.mu.Unlock()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(b)
}

// refused is why no passes are issued: what is told, and the reason that is counted.
type refused struct {
	status int
	reason string
	told   string
	wait   int64 // seconds after which it may be otherwise; 0: it will not
}

// serve signs a batch.
func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	b, ok := takeBody(w, r, "batch of requests", wire.PassBatchMax*wire.PassRequestSize)
	if !ok {
		i.counts.add("malformed", 1)
		return
	}
	answer, why := i.issue(r, b, time.Now())
	if why != nil {
		i.counts.add(why.reason, 1)
		if why.wait > 0 {
			w.Header().Set("Retry-After", strconv.FormatInt(why.wait, 10))
		}
		http.Error(w, why.told, why.status)
		return
	}
	i.counts.add(issuedCount, uint64(len(answer)/wire.PassSignatureSize))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(answer)
}

func (i *issuer) issue(r *http.Request, b []byte, now time.Time) ([]byte, *refused) {
	batch, ok := wire.ParsePassRequests(b)
	if !ok {
		return nil, &refused{http.StatusBadRequest, "malformed", fmt.Sprintf("not a batch of 1 to %d requests", wire.PassBatchMax), 0}
	}
	key, ok := i.signing(now)
	if !ok {
		return nil, &refused{http.StatusServiceUnavailable, "key", "the issuer has no key for this time; come again", 60}
	}
	id := key.Public().ID()
	for _, q := range batch {
		if q.Key != id[31] {
			return nil, &refused{http.StatusConflict, "key", "a request is for another key than that of this time; ask for the keys again, and compare the clocks", 0}
		}
	}
	who, named, err := i.who(r, b)
	if err != nil {
		return nil, &refused{http.StatusUnauthorized, "identity", "who asks is not known: " + err.Error(), 0}
	}
	if why := i.take(now.Unix(), who, named, len(batch)); why != nil {
		return nil, why
	}
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-r.Context().Done():
		return nil, &refused{http.StatusServiceUnavailable, "busy", "the issuer is busy; come again", 5}
	}
	answer := make([]byte, 0, len(batch)*wire.PassSignatureSize)
	for _, q := range batch {
		signature, err := key.Sign(q.Blinded[:])
		if err != nil {
			return nil, &refused{http.StatusBadRequest, "malformed", "a request is not a blinded message for this key", 0}
		}
		answer = append(answer, signature...)
	}
	return answer, nil
}

// take takes so many passes from what one gets in this hour, and then, of who has no name,
// from what all of them get: who has many addresses takes no more of the issuer's time. What
// one gets is gone where that of all is, both until the hour ends.
func (i *issuer) take(unix int64, who string, named bool, n int) *refused {
	i.mu.Lock()
	defer i.mu.Unlock()
	rate := func(most int, whom string, wait int64) *refused {
		return &refused{http.StatusTooManyRequests, "rate", fmt.Sprintf("%d an hour are issued to %s, and these would be more; come again in %d s", most, whom, wait), wait}
	}
	if ok, wait := i.quota.Take(unix, pass.Subject(seal.MAC(&i.secret, []byte(who))), n); !ok {
		return rate(i.cfg.PerHour, "one", wait)
	}
	if named || i.cfg.PerHourAll == 0 {
		return nil
	}
	if ok, wait := i.all.Take(unix, pass.Subject{}, n); !ok {
		return rate(i.cfg.PerHourAll, "all together", wait)
	}
	return nil
}

// who is who asks: by name, or where nobody has one by address, so that one who asks for
// all passes of an hour leaves the others theirs. Both are hashed and forgotten.
func (i *issuer) who(r *http.Request, body []byte) (who string, named bool, err error) {
	if i.cfg.Identify != nil {
		if name, err := i.cfg.Identify(r, body); err != nil || name != "" {
			return "name " + name, true, err
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // of no address: all of these are one
		return "address", false, nil
	}
	return "address " + front.Block(from.Addr()).String(), false, nil
}

// issuedCount is under which passes are counted that were issued; every other name is
// the reason of a refusal.
const issuedCount = "issued"

// issuedEvent is what is told of passes that were issued, or of a refusal, to who is known
// by a class: no event says when, or to whom.
func issuedEvent(class string) func(what, window string) audit.Event {
	return func(what, window string) audit.Event {
		e := audit.Event{Kind: audit.PolicyClass, Action: "issue", Subject: "passes", Details: details("class", class, "window", window)}
		if what != issuedCount {
			e.Kind, e.Action, e.Outcome, e.Reason = audit.AdmissionRefusal, "refuse", audit.Refused, what
		}
		return e
	}
}

// run turns keys until ctx ends.
func (i *issuer) run(ctx context.Context, tell func(audit.Event)) {
	tick := time.NewTicker(issuerTurn)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			turned, err := i.turn(now)
			if err != nil {
				i.log.Error("the keys of passes are not turned; it is tried again", "why", err)
			}
			if turned {
				tell(audit.Event{Kind: audit.KeyEvent, Action: "rotate", Subject: "passes"})
			}
		}
	}
}

// Credentials by which clients make themselves known to an issuer, in the header
// Authorization.
const (
	bearerScheme = "Bearer "
	keyScheme    = "Nyx-Key "
)

// BearerOf is the token that a request shows.
func BearerOf(r *http.Request) (string, bool) {
	return strings.CutPrefix(r.Header.Get("Authorization"), bearerScheme)
}

// keyProof is how who holds the network's key proves it with a batch. The batch is for
// one issuer's key, so that it is worth nothing to anybody else.
func keyProof(key *seal.Key, body []byte) string {
	h := seal.Hash("pass request", body)
	mac := seal.MAC(key, h[:])
	return keyScheme + hex.EncodeToString(mac[:])
}

var errNoProof = errors.New("show the network's key, or the network file has another one")

// identifyHolder knows who holds the network's key, none of them by a name.
func identifyHolder(key *seal.Key) Identify {
	return func(r *http.Request, body []byte) (string, error) {
		if want := keyProof(key, body); !seal.Equal([]byte(want), []byte(r.Header.Get("Authorization"))) {
			return "", errNoProof
		}
		return "", nil
	}
}

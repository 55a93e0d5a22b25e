package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/seal/blind"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	// passBatch is how many passes are asked for, always: the issuer would see by
	// another number how many were spent since.
	passBatch = 32
	// passEntries is for how many entries: with 8 for each, a client is known to as
	// many for six hours.
	passEntries = 4
	// passesAhead is how many passes of an entry the client is given at a time: one to
	// show, and one if that is refused.
	passesAhead = 2
	// supplyEvery is how often the client is given passes out of the wallet.
	supplyEvery = 10 * time.Second
	// fetchLeast and fetchSpan are between two fetches: drawn, so that they tell
	// nothing of when the client does what.
	fetchLeast, fetchSpan = 2 * time.Hour, 4 * time.Hour
)

// PassOrder is what fetching passes takes.
type PassOrder struct {
	Network *setup.Network
	Wallet  *Wallet
	// Token is the file of an OIDC token by which the issuer knows the user; "" shows
	// the network's key, if there is one.
	Token string
	// Through is the URL of a proxy by which the issuer is reached, as
	// socks5://127.0.0.1:9150; "" for directly. An issuer that is reached directly has
	// the address that entries see.
	Through string
}

var errNoPasses = errors.New("the network file has no table [issuer]: its entries ask for no unlinkable tokens")

// FetchPasses gets passes for entries that are drawn from the directory, and those for
// which the wallet has some, and says how many the wallet took.
func FetchPasses(ctx context.Context, order PassOrder, cfg client.Config) (n int, err error) {
	view, err := lookOnce(ctx, order.Network)
	if err != nil {
		return 0, err
	}
	core := client.New(cfg, systemEntropy())
	core.SetView(0, view)
	return order.fetch(ctx, core.DrawEntries, view)
}

// lookOnce fetches the directory's newest document.
func lookOnce(ctx context.Context, n *setup.Network) (view *directory.View, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	feed, err := newFeed(feedConfig{trust: n.Trust, urls: n.Directories, deliver: func(v *directory.View) { view = v; cancel() }})
	if err != nil {
		return nil, err
	}
	asker, err := newAsker(n.Replicas, n.Directories, nil, systemEntropy().Stream("asker"), nil)
	if err != nil {
		return nil, err
	}
	defer asker.Close()
	feed.read(asker, directory.NewSample(systemEntropy().Stream("sample")))
	feed.run(ctx, func(failed error) { err = failed })
	if view == nil {
		return nil, fmt.Errorf("no directory document: %w", errors.Join(err, ctx.Err()))
	}
	return view, nil
}

// fetch gets a batch of passes: for the entries for which the wallet has some, as long
// as the directory has them, and for as many drawn ones as are missing.
func (o *PassOrder) fetch(ctx context.Context, draw func(int) ([]wire.NodeID, error), view *directory.View) (int, error) {
	if o.Network.Issuer == nil {
		return 0, errNoPasses
	}
	now := time.Now()
	entries, err := o.entries(now, draw, view)
	if err != nil {
		return 0, err
	}
	key, at, err := o.key(ctx, now)
	if err != nil {
		return 0, err
	}
	name := o.Network.Trust.Network
	batch, err := pass.NewOrder(rand.Reader, name, key.Public, entries, blinder)
	if err != nil {
		return 0, err
	}
	answer, err := o.ask(ctx, at, batch.Body())
	if err != nil {
		return 0, err
	}
	passes, err := batch.Finish(answer)
	if err != nil {
		return 0, fmt.Errorf("the issuer's answer is not for what was asked: %w", err)
	}
	out := make([]held, len(passes))
	for i := range passes {
		out[i] = held{pass: passes[i], entry: entries[i], until: key.Until}
	}
	return o.Wallet.put(now, out)
}

func blinder(random io.Reader, key *seal.PassPublic, message []byte) (pass.Blind, error) {
	return blind.Blind(random, key, message)
}

// entries are for whom passes are asked for: passBatch in all.
func (o *PassOrder) entries(now time.Time, draw func(int) ([]wire.NodeID, error), view *directory.View) (out []wire.NodeID, err error) {
	there, err := o.Wallet.list(now)
	if err != nil {
		return nil, err
	}
	var few []wire.NodeID
	add := func(id wire.NodeID) {
		if len(few) < passEntries && !slices.Contains(few, id) {
			few = append(few, id)
		}
	}
	for _, h := range there {
		if _, listed := view.Node(h.entry); listed {
			add(h.entry)
		}
	}
	drawn, err := draw(4 * passEntries)
	if err != nil {
		return nil, err
	}
	for _, id := range drawn {
		add(id)
	}
	for i := range passBatch {
		out = append(out, few[i%len(few)])
	}
	return out, nil
}

// passKeysSeen is where a wallet has the list of keys that was seen last.
const passKeysSeen = "seen.keys"

// key is the issuer's key of this time, and the control process that issues. An issuer
// that names another key for a period than it did before is not followed.
func (o *PassOrder) key(ctx context.Context, now time.Time) (key pass.Key, at *issuerAt, err error) {
	all, err := o.issuers()
	if err != nil {
		return key, nil, err
	}
	var b []byte
	err = errNoIssuer
	for i := range all {
		if b, err = ask(ctx, all[i].client, all[i].url, passKeysPath, pass.KeysMax); err == nil {
			at = &all[i]
			break
		}
		err = fmt.Errorf("control process %s issues no unlinkable tokens: %w", all[i].url, err)
	}
	if err != nil {
		return key, nil, err
	}
	keys, err := o.Wallet.holdTo(b, o.Network.Trust.Network, o.Network.Issuer.Key)
	if err != nil {
		return key, nil, err
	}
	key, ok := keys.Signing(now.Unix())
	if !ok {
		return key, nil, errors.New("the issuer has no key for this time; compare the clocks, and come again")
	}
	return key, at, nil
}

// holdTo checks that an issuer's list agrees with the one that was seen last, and keeps
// it.
func (w *Wallet) holdTo(b []byte, network string, issuer []byte) (*pass.Keys, error) {
	keys, err := pass.ParseKeys(b, network, issuer)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(w.dir, passKeysSeen)
	was, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the wallet: %w", err)
	}
	if before, err := pass.ParseKeys(was, network, issuer); err == nil {
		if err := keys.Follows(before); err != nil {
			return nil, fmt.Errorf("%w: it can tell by them who you are, and no tokens are asked for; tell the operators of the network, %s is what the issuer said before", err, path)
		}
	}
	if err := setup.ReplaceFile(path, b); err != nil {
		return nil, fmt.Errorf("cannot write the wallet: %w", err)
	}
	return keys, nil
}

// issuerAt is a control process that may issue.
type issuerAt struct {
	url    string
	client *http.Client
}

func (o *PassOrder) issuers() (out []issuerAt, err error) {
	through, err := setup.Through(o.Through)
	if err != nil {
		return nil, err
	}
	var servers []mirror.Server
	for _, u := range o.Network.Controls {
		s, err := mirror.ParseServer(u)
		if err != nil {
			return nil, fmt.Errorf("control process %s: %w", u, err)
		}
		servers = append(servers, s)
	}
	clients, err := mirror.Clients(servers)
	if err != nil {
		return nil, err
	}
	for i, c := range clients {
		c.Transport.(*http.Transport).Proxy = through
		out = append(out, issuerAt{servers[i].URL, c})
	}
	return out, nil
}

// tokenMax bounds the file of an OIDC token.
const tokenMax = 16 << 10

// ask posts a batch.
func (o *PassOrder) ask(ctx context.Context, at *issuerAt, body []byte) ([]byte, error) {
	q := request{server: at.url, path: passesPath, post: body, most: wire.PassBatchMax * wire.PassSignatureSize}
	if o.Token != "" {
		b, err := os.ReadFile(o.Token)
		if err != nil || len(b) > tokenMax {
			return nil, fmt.Errorf("cannot read the token of your identity provider: %w", errors.Join(err))
		}
		q.authorization = bearerScheme + strings.TrimSpace(string(b))
	} else if o.Network.PSK != nil {
		q.authorization = keyProof(o.Network.PSK, body)
	}
	r, err := exchange(ctx, at.client, q)
	at.client.CloseIdleConnections()
	if err == nil && !r.ok() {
		err = fmt.Errorf("no tokens are issued: %s", r.said())
	}
	return r.body, err
}

// supply gives the client passes out of its wallet.
func (c *Client) supply(w *Wallet) error {
	have := map[wire.NodeID]int{}
	want := func(entry wire.NodeID) int {
		if _, known := have[entry]; !known {
			c.host.Do(func(machine.Time) { have[entry] = c.core.Passes(entry) })
		}
		return passesAhead - have[entry]
	}
	out, err := w.take(time.Now(), want)
	c.host.Do(func(now machine.Time) {
		for i := range out {
			c.until[out[i].pass.Key] = out[i].until
			c.core.HandlePasses(now, out[i].entry, out[i].pass)
		}
	})
	return err
}

// keepPasses supplies the client until ctx ends, and fetches more at drawn moments where
// fetch says how; what was not shown goes back into the wallet.
func (c *Client) keepPasses(ctx context.Context, w *Wallet, order *PassOrder, failed func(error)) {
	supply, draw := time.NewTicker(supplyEvery), systemEntropy().Stream("fetches")
	defer supply.Stop()
	next := func() time.Duration { return fetchLeast + time.Duration(draw.Uint64N(uint64(fetchSpan))) }
	fetch := time.NewTimer(next())
	defer fetch.Stop()
	var fetched error // of the last fetch
	for {
		failed(errors.Join(c.supply(w), fetched))
		select {
		case <-ctx.Done():
			return
		case <-supply.C:
		case <-fetch.C:
			fetch.Reset(next())
			if order != nil {
				fetched = c.fetchPasses(ctx, order)
			}
		}
	}
}

// compareKeys has the issuer's list of keys come through the network, where nobody can
// tell who asks, and holds it to what the wallet has seen. It reports whether there was
// one to compare: an exit that reaches the issuer is not every network's.
func (c *Client) compareKeys(ctx context.Context, order *PassOrder) (compared bool, err error) {
	all, err := order.issuers()
	if err != nil {
		return false, err
	}
	for _, at := range all {
		t := at.client.Transport.(*http.Transport)
		t.Proxy, t.DialContext = nil, func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, err
			}
			return c.DialStream(ctx, keysIsolation, host, uint16(n))
		}
		b, err := ask(ctx, at.client, at.url, passKeysPath, pass.KeysMax)
		t.CloseIdleConnections()
		if err == nil {
			_, err := order.Wallet.holdTo(b, order.Network.Trust.Network, order.Network.Issuer.Key)
			return true, err
		}
	}
	return false, nil
}

// keysIsolation keeps the session that fetches the list apart from users'.
const keysIsolation = "\x00pass keys"

func (c *Client) fetchPasses(ctx context.Context, order *PassOrder) error {
	if order.Network.Issuer == nil {
		return errNoPasses
	}
	if _, err := c.compareKeys(ctx, order); err != nil {
		return err
	}
	var view *directory.View
	draw := func(n int) (out []wire.NodeID, err error) {
		c.host.Do(func(machine.Time) { out, err = c.core.DrawEntries(n) })
		return out, err
	}
	if c.host.Do(func(machine.Time) { view = c.core.View() }); view == nil {
		return client.ErrNoDirectory
	}
	_, err := order.fetch(ctx, draw, view)
	return err
}

// giveBack puts what was not shown back into the wallet. The host's lock is held.
func (c *Client) giveBack(w *Wallet) error {
	var out []held
	for entry, passes := range c.core.TakePasses() {
		for _, p := range passes {
			out = append(out, held{pass: p, entry: entry, until: c.until[p.Key]})
		}
	}
	_, err := w.put(time.Now(), out)
	return err
}

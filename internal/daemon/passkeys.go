package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/setup"
)

const (
	// passKeysFile is where the issuer's list of keys is kept that was had last.
	passKeysFile = "pass.keys"
	// passKeysPoll is how often a node asks for the list. A key is in it for a period
	// before it signs.
	passKeysPoll = 10 * time.Minute
	// passKeysFirst is after what time a node asks again that got none.
	passKeysFirst = time.Second
)

// passRule says what the entry makes of unlinkable tokens.
func (n *Node) passRule(p *control.Policy) {
	if n.cfg.Issuer == nil {
		return
	}
	p.Passes, p.PassChallenge = control.PassesTaken, pass.Challenge(n.cfg.Network, n.id)
	if n.cfg.PassesRequired {
		p.Passes = control.PassesRequired
	}
}

// openPasses takes up the keys that were had last, and what was spent under them. It is
// called before the node runs.
func (n *Node) openPasses() (*spentLog, error) {
	if n.gateway == nil || n.cfg.Issuer == nil {
		return nil, nil
	}
	log := newSpentLog(n.cfg.StateDir)
	if n.cfg.StateDir == "" {
		return log, nil
	}
	b, err := os.ReadFile(filepath.Join(n.cfg.StateDir, passKeysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return log, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys of tokens: %w", err)
	}
	keys, err := pass.ParseKeys(b, n.cfg.Network, n.cfg.Issuer)
	if err != nil {
		n.log.Warn("the keys of tokens that were kept are not used", "why", err)
		return log, nil
	}
	n.passKeys = keys
	spent, err := log.open(keys)
	if err != nil {
		return nil, err
	}
	n.setPassKeys(keys, spent)
	return log, nil
}

// setPassKeys gives the gateway keys, and what was spent under them in earlier
// processes. The host's lock is held, or the node does not run yet.
func (n *Node) setPassKeys(keys *pass.Keys, spent []control.Spent) {
	start := n.cfg.Clock.At(0)
	var out []control.PassKey
	for _, k := range keys.All() {
		out = append(out, control.PassKey{Public: k.Public, Until: machine.Time(time.Unix(k.Until, 0).Sub(start))})
	}
	n.gateway.SetPassKeys(out)
	for _, s := range spent {
		n.gateway.LoadSpent(s)
	}
}

// takePassKeys takes a list that was fetched.
func (n *Node) takePassKeys(b []byte) error {
	keys, err := pass.ParseKeys(b, n.cfg.Network, n.cfg.Issuer)
	if err == nil {
		err = keys.Follows(n.passKeys)
	}
	if err != nil || n.passKeys != nil && keys.Issued() <= n.passKeys.Issued() {
		return err
	}
	if n.cfg.StateDir != "" {
		err = setup.ReplaceFile(filepath.Join(n.cfg.StateDir, passKeysFile), b)
	}
	var spent []control.Spent // opened last: what it returns it returns once
	if err == nil {
		spent, err = n.spent.open(keys)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the keys of tokens: %w", err)
	}
	n.host.Do(func(machine.Time) { n.setPassKeys(keys, spent) })
	n.passKeys = keys
	n.spent.prune(keys)
	return nil
}

// followPassKeys keeps the issuer's keys present.
func (n *Node) followPassKeys(ctx context.Context) {
	from, err := newPassKeySource(n.cfg.Controls)
	draw := systemEntropy().Stream("pass keys")
	for failures := 0; ; {
		if err == nil {
			var b []byte
			if b, err = from.fetch(ctx); err == nil {
				err = n.takePassKeys(b)
			}
		}
		if ctx.Err() != nil {
			return
		}
		n.note(verifying, err)
		wait := passKeysPoll/2 + time.Duration(draw.Uint64N(uint64(passKeysPoll)))
		if failures++; err == nil {
			failures = 0
		} else {
			wait = min(wait, passKeysFirst<<min(failures, 8))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if from != nil {
			err = nil
		}
	}
}

// passKeySource is where the issuer's list of keys is had: one of the control processes
// has it. Whoever gives it, the issuer has signed it.
type passKeySource struct {
	servers []mirror.Server
	clients []*http.Client
}

func newPassKeySource(urls []string) (*passKeySource, error) {
	s := &passKeySource{}
	for _, u := range urls {
		server, err := mirror.ParseServer(u)
		if err != nil {
			return nil, fmt.Errorf("control process %s: %w", u, err)
		}
		s.servers = append(s.servers, server)
	}
	var err error
	s.clients, err = mirror.Clients(s.servers)
	return s, err
}

var errNoIssuer = errors.New("no control process is configured that issues unlinkable tokens; write its URL into controls of the network file")

func (s *passKeySource) fetch(ctx context.Context) ([]byte, error) {
	failed := errNoIssuer
	for i, server := range s.servers {
		b, err := ask(ctx, s.clients[i], server.URL, passKeysPath, pass.KeysMax)
		if err == nil {
			return b, nil
		}
		failed = fmt.Errorf("the keys of unlinkable tokens cannot be had: control process %s: %w", server.URL, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// keyName names a key in the names of files.
func keyName(id [32]byte) string { return hex.EncodeToString(id[:8]) }

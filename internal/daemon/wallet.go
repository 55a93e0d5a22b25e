package daemon

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/pass"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// Wallet is a client's unlinkable tokens on disk: a directory that its owner alone
// reads, with a file for each pass:
//
//	[version 1 = 1][good until 8][entry 32][pass 354]
//
// A pass is taken by the removal of its file, so that several processes share a wallet
// without a lock, and none shows what another one has shown. A crash loses the few that
// were taken and not shown.
type Wallet struct{ dir string }

const (
	walletFormat  = 1
	walletPass    = ".pass"
	walletRecord  = 1 + 8 + 32 + wire.PassSize
	walletFileMax = 4096 // of passes that are looked at
	// walletEntryMax bounds the passes of one entry: a day of renewals.
	walletEntryMax = 32
)

// OpenWallet opens a wallet, and makes it if there is none.
func OpenWallet(dir string) (*Wallet, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the wallet: %w", err)
	}
	return &Wallet{dir}, nil
}

// held is a pass in a wallet.
type held struct {
	pass  wire.Pass
	entry wire.NodeID
	until int64
	path  string
}

func (h *held) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, walletFormat), uint64(h.until))
	return h.pass.Append(append(b, h.entry[:]...))
}

func parseHeld(b []byte) (h held, ok bool) {
	if len(b) != walletRecord || b[0] != walletFormat {
		return held{}, false
	}
	h.until = int64(binary.BigEndian.Uint64(b[1:]))
	copy(h.entry[:], b[9:])
	h.pass, ok = wire.ParsePass(b[41:])
	return h, ok
}

// list reads what is in the wallet and good at a time; what is good no more is removed.
func (w *Wallet) list(now time.Time) (out []held, err error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the wallet: %w", err)
	}
	for _, e := range entries[:min(len(entries), walletFileMax)] {
		if !strings.HasSuffix(e.Name(), walletPass) {
			continue
		}
		path := filepath.Join(w.dir, e.Name())
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has taken it
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the wallet: %w", err)
		}
		h, ok := parseHeld(b)
		if !ok {
			return nil, fmt.Errorf("%s in the wallet is damaged; remove it", e.Name())
		}
		if h.path = path; now.Unix() >= h.until {
			os.Remove(path) // what stays is removed the next time
			continue
		}
		out = append(out, h)
	}
	return out, nil
}

// put puts passes into the wallet, as many of an entry as have room.
func (w *Wallet) put(now time.Time, passes []held) (n int, err error) {
	there, err := w.list(now)
	if err != nil {
		return 0, err
	}
	count := map[wire.NodeID]int{}
	for _, h := range there {
		count[h.entry]++
	}
	for i := range passes {
		h := &passes[i]
		if count[h.entry]++; count[h.entry] > walletEntryMax {
			continue
		}
		tag := pass.TagOf(&h.pass)
		if err := setup.ReplaceFile(filepath.Join(w.dir, hex.EncodeToString(tag[:])+walletPass), h.append(nil)); err != nil {
			return n, fmt.Errorf("cannot write the wallet: %w", err)
		}
		n++
	}
	return n, nil
}

// take takes passes out, so many as want says of an entry: nobody else takes them.
func (w *Wallet) take(now time.Time, want func(wire.NodeID) int) (out []held, err error) {
	all, err := w.list(now)
	if err != nil {
		return nil, err
	}
	wanted := map[wire.NodeID]int{}
	for _, h := range all {
		left, known := wanted[h.entry]
		if !known {
			left = want(h.entry)
		}
		if wanted[h.entry] = left - 1; left <= 0 {
			continue
		}
		switch err := os.Remove(h.path); {
		case errors.Is(err, fs.ErrNotExist):
			wanted[h.entry]++
		case err != nil:
			return out, fmt.Errorf("cannot take from the wallet: %w", err)
		default:
			out = append(out, h)
		}
	}
	return out, nil
}

// WalletState is what a wallet holds of one entry.
type WalletState struct {
	Entry  string    `json:"entry"`
	Passes int       `json:"passes"`
	Until  time.Time `json:"until"` // when the last of them is good no more
}

// State is what the wallet holds, by entry.
func (w *Wallet) State(now time.Time) ([]WalletState, error) {
	all, err := w.list(now)
	if err != nil {
		return nil, err
	}
	out, at := []WalletState{}, map[wire.NodeID]int{}
	for _, h := range all {
		i, known := at[h.entry]
		if !known {
			i = len(out)
			at[h.entry] = i
			out = append(out, WalletState{Entry: hex.EncodeToString(h.entry[:])})
		}
		out[i].Passes++
		if until := time.Unix(h.until, 0).UTC(); until.After(out[i].Until) {
			out[i].Until = until
		}
	}
	return out, nil
}

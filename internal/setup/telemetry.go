package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/wire"
)

// Bounds of telemetry.probe: a probe lasts up to 20 s, and one a day is the least that
// says anything.
const (
	ProbeLeast = time.Second
	ProbeMost  = 24 * time.Hour
)

// TelemetryConfig is what a process tells beside its metrics.
type TelemetryConfig struct {
	// Probe is how often a Stream node probes the network; zero: never. ProbeLevel is
	// the level of the probes.
	Probe      time.Duration
	ProbeLevel wire.Level
	// Traces has the process keep its spans in its state directory.
	Traces bool
	Push
}

// Push is where a process pushes what it tells.
type Push struct {
	// OTLP is the URL of a collector that takes spans and metrics; RemoteWrite that of a
	// server that takes metrics as Prometheus writes them; "" for none.
	OTLP, RemoteWrite string
	// The token that RemoteWrite is shown is the first line of TokenFile, or the secret
	// that TokenName names in the store of the process; "": it is shown none.
	TokenFile, TokenName string
	// SpoolBytes bounds what is kept on disk for each of them while nobody takes it; 0 keeps
	// nothing.
	SpoolBytes int64
}

// Used reports whether anything is pushed.
func (p *Push) Used() bool { return p.OTLP != "" || p.RemoteWrite != "" }

// What is kept of telemetry that is not taken, in MB: a day of a node's figures has a tenth
// of the default (docs/telemetry.md).
const (
	defaultSpoolMegabytes = 256
	spoolMegabytesMax     = 1 << 20 // a terabyte; more is a slip of the pen
)

// telemetryFile is the table as written.
type telemetryFile struct {
	Probe      string `toml:"probe"`
	ProbeLevel string `toml:"probe_level"`
	Traces     bool   `toml:"traces"`
	OTLP       string `toml:"otlp"`
	Remote     string `toml:"remote_write"`
	Token      string `toml:"remote_write_token"`
	Spool      int64  `toml:"spool_megabytes"`
}

func (d *document) telemetry(c *Config, f *telemetryFile) {
	t := &c.Telemetry
	if f.Probe != "" {
		t.Probe = d.duration("telemetry.probe", f.Probe, ProbeLeast, ProbeMost)
		if !c.Roles.Has(directory.RoleEntry) {
			d.bad("telemetry.probe", "only a Stream node with the role entry probes. Remove the line, or add the role")
		} else if c.Network != nil && c.Network.Issuer != nil && c.Network.Issuer.Required {
			d.bad("telemetry.probe", "entries of this network admit by unlinkable tokens only, and a probe has none. Remove the line")
		}
	}
	t.ProbeLevel = d.level("telemetry.probe_level", f.ProbeLevel)
	if t.Traces = f.Traces; t.Traces && c.State == "" {
		d.bad("telemetry.traces", "there is no directory to keep them in. Write state = \"state\"")
	}
	d.push(c, f)
}

func (d *document) push(c *Config, f *telemetryFile) {
	p := &c.Telemetry.Push
	if p.OTLP = f.OTLP; p.OTLP != "" {
		d.collector("telemetry.otlp", p.OTLP)
	}
	if p.RemoteWrite = f.Remote; p.RemoteWrite != "" {
		d.collector("telemetry.remote_write", p.RemoteWrite)
	}
	if name, ok := d.reference("telemetry.remote_write_token", f.Token); ok {
		if p.TokenName = name; !c.Secrets.Used() {
			d.bad("telemetry.remote_write_token", "%q is a reference, and there is no [secrets] that says where it leads. Write the table with its store", f.Token)
		}
	} else {
		p.TokenFile = d.file(f.Token)
	}
	if f.Token != "" && p.RemoteWrite == "" {
		d.bad("telemetry.remote_write_token", "has no effect without telemetry.remote_write. Write its URL, or remove the token")
	}
	switch {
	case !d.has("telemetry.spool_megabytes"):
		f.Spool = defaultSpoolMegabytes
	case !p.Used():
		d.bad("telemetry.spool_megabytes", "bounds what waits for telemetry.otlp and telemetry.remote_write, and neither is there")
	case f.Spool > 0 && c.State == "":
		d.bad("telemetry.spool_megabytes", "there is no directory to keep it in. Write state = \"state\", or remove the line")
	}
	if f.Spool < 0 || f.Spool > spoolMegabytesMax {
		d.bad("telemetry.spool_megabytes", "%d is out of range; use 1 to %d, or 0 to keep nothing", f.Spool, spoolMegabytesMax)
	}
	if p.Used() {
		p.SpoolBytes = f.Spool << 20
	}
}

// refersToStore reports whether a secret of telemetry is in the store.
func (f *telemetryFile) refersToStore() bool { return strings.HasPrefix(f.Token, secret.Scheme) }

// Keys of what is kept of telemetry.
const (
	spoolKeyFile = "spool.key"
	kindSpool    = "nyx-secret-spool-1"
	storedSpool  = "/spool"
)

// LoadOrMakeSpoolKey reads the key in dir under which telemetry is kept that nobody takes,
// and makes it at the first call.
func LoadOrMakeSpoolKey(dir string) (*seal.Key, error) {
	key, path := &seal.Key{}, filepath.Join(dir, spoolKeyFile)
	err := readSecret(path, kindSpool, key[:])
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the key: %w", err)
	}
	if err = makeSecret(path, kindSpool, key[:], nil); errors.Is(err, fs.ErrExist) { // another process was first
		err = readSecret(path, kindSpool, key[:])
	}
	return key, err
}

// Spool is LoadOrMakeSpoolKey in a store.
func (k *StoredKeys) Spool(ctx context.Context) (*seal.Key, error) {
	key, name := &seal.Key{}, k.Name+storedSpool
	err := k.read(ctx, name, kindSpool, key[:])
	if !errors.Is(err, secret.ErrNone) {
		return key, err
	}
	value, err := freshKey(kindSpool, seal.KeySize, nil)
	if err != nil {
		return nil, err
	}
	defer clear(value)
	if _, err = k.Store.Put(ctx, name, value, 0); err != nil && !errors.Is(err, secret.ErrChanged) { // another process was first
		return nil, err
	}
	return key, k.read(ctx, name, kindSpool, key[:])
}

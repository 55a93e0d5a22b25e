package daemon

import (
	"context"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Probe tries whether a client of a network comes up, as any client would: nobody can
// tell it from one.
type Probe struct {
	Network *setup.Network
	Use     joint.Use
	Kinds   []joint.Kind // beside UDP
	// Patience is how long the client is waited for.
	Patience time.Duration

	block func(drive.Carrier) drive.Carrier // for tests: see ClientConfig
}

// Probed is what became of it.
type Probed struct {
	Ready bool
	// Sent are datagrams to entries, Heard those that came back from them.
	Sent, Heard uint64
	Why         error // it is not ready
}

// Run runs the probe.
func (p *Probe) Run(ctx context.Context) (out Probed, err error) {
	cfg := ClientConfig{
		Client: client.Config{Level: wire.Fast}, Trust: p.Network.Trust, Directories: p.Network.Directories, Replicas: p.Network.Replicas,
		Use: p.Use, Carriers: p.Kinds, block: p.block,
	}
	if _, err := credentials(&cfg.Client, p.Network, ""); err != nil {
		return out, err
	}
	c, err := StartClient(cfg, systemEntropy())
	if err != nil {
		return out, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	out.Why = c.WaitReady(ctx)
	counts := c.Stats()
	out.Ready, out.Sent, out.Heard = out.Why == nil, counts[trace.LinkOut], counts[trace.LinkIn]
	return out, nil
}

package daemon

import (
	"bytes"
	"fmt"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/setup"
	"github.com/nyxnet/nyx/internal/wire"
)

// distrustFile holds the nodes that the operator of an authority distrusts, in its
// state directory, signed with its key.
const distrustFile = "authority.distrusted"

// ChangeDistrust has change say of which nodes the bulletins of a configured authority
// say that they are not to be used, and keeps that; nil only reads it. The authority
// follows within a round, and after a restart.
func ChangeDistrust(cfg *setup.Config, open func(*setup.SecretsConfig) (secret.Store, error), change func(*directory.Distrust) error) (*directory.Distrust, error) {
	ring, err := openKeyring(cfg, open)
	if err != nil {
		return nil, err
	}
	defer ring.close()
	signer, err := ring.authority()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.State, distrustFile)
	d, err := loadDistrust(path, cfg.Network.Trust.Network, signer)
	if err != nil || change == nil {
		return d, err
	}
	if err := change(d); err != nil {
		return nil, err
	}
	b, err := directory.SignDistrust(signer, d)
	if err != nil {
		return nil, err
	}
	return d, setup.SaveState(path, b)
}

func loadDistrust(path, network string, signer *seal.Signer) (*directory.Distrust, error) {
	b, err := setup.LoadState(path)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return &directory.Distrust{Network: network}, nil
	}
	d, err := directory.OpenDistrust(b, network, signer.Public())
	if err != nil {
		return nil, fmt.Errorf("%s is not what this authority's operator signed; remove it and say again which nodes are distrusted: %w", path, err)
	}
	return d, nil
}

// heed takes over what the operator says of nodes, if that is another word than the
// last. A file that cannot be used changes nothing. The crier's lock is held.
func (a *Authority) heed() {
	if a.cfg.StateDir == "" {
		return
	}
	path := filepath.Join(a.cfg.StateDir, distrustFile)
	b, err := setup.LoadState(path)
	if err == nil && bytes.Equal(b, a.crier.word) {
		return
	}
	a.crier.word = b
	var d *directory.Distrust
	for _, s := range a.cfg.Signers {
		if d, err = loadDistrust(path, a.cfg.Network, s); err == nil {
			break
		}
	}
	if err != nil {
		a.log.Warn("what the operator says of nodes is not followed", "why", err)
		return
	}
	var nodes []wire.NodeID
	for _, n := range d.Nodes {
		nodes = append(nodes, n.Node)
		a.log.Warn("bulletins say that a node is not to be used", "node", fmt.Sprintf("%x", n.Node[:8]), "reason", n.Reason)
	}
	if len(nodes) == 0 && b != nil {
		a.log.Info("bulletins distrust no node")
	}
	a.crier.observer.Distrust(nodes)
}

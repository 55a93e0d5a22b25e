package daemon

import (
	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/prng"
)

// startControl starts the control process of a network on this machine, whose key
// comes back at the next start, and returns where nodes reach it. The directory runs
// already: it lists the nodes that may speak.
func (l *Local) startControl(cfg *LocalConfig, keys prng.Source) (controls []string, err error) {
	if cfg.Control == nil {
		return nil, nil
	}
	var key [front.KeySize]byte
	keys.Stream("control").Read(key[:])
	operators := ""
	if cfg.OperatorFile != "" {
		operators = "127.0.0.1:0"
	}
	l.Control, err = cfg.Control(ControlConfig{
		Name: "control", Listen: "127.0.0.1:0", Key: &key, Trust: l.trust, Authorities: []string{l.Authority.URL()},
		Poll: localPoll, StateDir: cfg.ControlDir, Operators: operators, OperatorFile: cfg.OperatorFile,
	})
	if err != nil || l.Control == nil {
		return nil, err
	}
	controls = []string{l.Control.URL()}
	return controls, l.Authority.consult(controls)
}

package daemon

import (
	"net"
	"strconv"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// startWitnesses starts the witnesses of a network on this machine and names them
// in trust. Their keys, as those of the authorities, come back at the next start,
// and their memory does not: it ends with the log, which ends with the process.
func (l *Local) startWitnesses(n int, keys prng.Source, trust *directory.Trust) (urls []string, err error) {
	signers := make([]*seal.Signer, n)
	listeners := make([]net.Listener, n)
	for i := range n {
		if signers[i], err = newSigner(keys, "witness/"+strconv.Itoa(i)); err != nil {
			return nil, err
		}
		trust.Witnesses, trust.WitnessThreshold = append(trust.Witnesses, signers[i].Public()), n/2+1
	}
	for i := range n {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		w, err := StartWitness(WitnessConfig{Trust: *trust, Signer: signers[i], listener: listeners[i]})
		if err != nil {
			return nil, err
		}
		l.Witnesses = append(l.Witnesses, w)
	}
	return l.witnessURLs(), nil
}

func (l *Local) witnessURLs() (urls []string) {
	for _, w := range l.Witnesses {
		urls = append(urls, w.URL())
	}
	return urls
}

package nyx

import (
	"crypto/rand"
	"fmt"

	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
)

// ServiceKey is the secret of a service inside the network. Who has it is the
// service.
type ServiceKey struct {
	seed [prng.SeedSize]byte
	key  *service.Key
}

// NewServiceKey makes a key.
func NewServiceKey() (*ServiceKey, error) {
	var seed [prng.SeedSize]byte
	rand.Read(seed[:]) // never fails
	return ParseServiceKey(seed[:])
}

// ParseServiceKey restores a key from its Secret.
func ParseServiceKey(secret []byte) (*ServiceKey, error) {
	k := &ServiceKey{}
	if len(secret) != len(k.seed) {
		return nil, fmt.Errorf("nyx: a service's secret has %d bytes, not %d", len(k.seed), len(secret))
	}
	copy(k.seed[:], secret)
	var err error
	k.key, err = service.NewKey(prng.New(k.seed))
	return k, err
}

// Secret returns the bytes to keep, and to keep secret.
func (k *ServiceKey) Secret() []byte { return append([]byte(nil), k.seed[:]...) }

// Host is the service's host name: its address, which its keys make, ending in .nyx.
func (k *ServiceKey) Host() string { return k.key.Address().String() }

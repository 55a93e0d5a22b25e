package daemon

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
	"github.com/nyxnet/nyx/internal/seal"
)

// BenchmarkRestart is an authority that takes up what it has kept of as many nodes
// as -benchtime says (50000x), in a store in memory: seconds, and seconds of
// processors, once with the document that it has signed and once without any.
func BenchmarkRestart(b *testing.B) {
	signer := func(i int) *seal.Signer {
		seed := [seal.SignSeedSize]byte{}
		binary.BigEndian.PutUint32(seed[:], uint32(i))
		s, err := seal.NewSigner(&seed)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	key, err := seal.NewKEMPrivate(&[seal.KEMSeedSize]byte{1})
	if err != nil {
		b.Fatal(err)
	}
	own, p, now := signer(0), directory.Params{}, time.Now().Unix()
	for _, vouched := range []bool{true, false} {
		b.Run(fmt.Sprintf("document=%v", vouched), func(b *testing.B) {
			b.StopTimer()
			one := fresh(b, own)
			store := registry.NewMemory(nil, nil)
			kept := registry.New(store)
			for i := range b.N {
				d := &directory.Node{
					Version: uint64(now), Roles: directory.RoleMix, Operator: fmt.Sprint("operator-", i), Region: fmt.Sprint("region-", i%12),
					Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 9000)},
					Link:  key.Public().Bytes(), Capacity: 1000,
					Onion: []directory.OnionKey{{Epoch: p.OnionFrom(p.EpochAt(now)), Key: key.Public().Bytes()}},
				}
				raw, err := directory.SignDescriptor(signer(i+1), localName, d)
				if err == nil {
					err = kept.Keep(b.Context(), raw)
				}
				if err == nil && vouched {
					_, err = one.Collect(raw, now)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if vouched {
				d, err := one.Build(p.EpochAt(now), 0)
				if err == nil {
					err = one.Sign(d, now)
				}
				if err == nil {
					err = kept.Publish(b.Context(), d)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			a := &Authority{log: logOrNone(nil), began: now, authorities: []*directory.Authority{fresh(b, own)}, cfg: AuthorityConfig{
				Network: localName, Signers: []*seal.Signer{own}, Store: store,
				Trust: directory.Trust{Network: localName, Authorities: [][]byte{own.Public()}, Threshold: 1},
			}}
			if a.crier, err = newCrier(&a.cfg); err != nil {
				b.Fatal(err)
			}
			before, _ := userTime()
			begun := time.Now()
			b.StartTimer()
			if err := a.open(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			after, _ := userTime()
			b.ReportMetric(time.Since(begun).Seconds(), "s")
			b.ReportMetric((after - before).Seconds(), "cpu-s")
			if n := a.authorities[0].Len(); n != b.N {
				b.Fatalf("%d of %d descriptors", n, b.N)
			}
		})
	}
}

func fresh(b *testing.B, own *seal.Signer) *directory.Authority {
	one, err := directory.NewAuthority(directory.AuthorityConfig{Network: localName, Signer: own, Threshold: 1, Authorities: 1})
	if err != nil {
		b.Fatal(err)
	}
	return one
}

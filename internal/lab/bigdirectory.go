package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// bigDirectory is the directory of a network that is too big to be run: signed
// as by its authorities, with nodes that have everything but real keys.
type bigDirectory struct {
	*directory.Document
	Trust directory.Trust
	Wall  int64
}

// bigRegions is how many regions a big network has.
const bigRegions = 12

// newBigDirectory makes the document of the present epoch with three authorities.
func newBigDirectory(source prng.Source, nodes int) (*bigDirectory, error) {
	d := &bigDirectory{Wall: time.Now().Unix(), Trust: directory.Trust{Network: "lab", Threshold: 3}}
	var signers []*seal.Signer
	for i := range d.Trust.Threshold {
		s, err := signerOf(source.Stream(fmt.Sprintf("authority/%d", i)))
		if err != nil {
			return nil, err
		}
		signers = append(signers, s)
		d.Trust.Authorities = append(d.Trust.Authorities, s.Public())
	}
	draw := source.Stream("nodes")
	p := directory.Params{}
	epoch := p.EpochAt(d.Wall)
	var list []*directory.Node
	for i := range nodes {
		n := &directory.Node{
			ID: seal.Hash("lab node", binary.BigEndian.AppendUint32(nil, uint32(i))), Version: uint64(d.Wall - 3600),
			Roles: directory.RoleMix, Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 1}), 9000)},
			Operator: fmt.Sprintf("operator-%d", i%(nodes/4+1)), Region: fmt.Sprintf("region-%d", draw.IntN(bigRegions)),
			Link:     make([]byte, seal.KEMPublicSize),
			Onion:    []directory.OnionKey{{Epoch: p.OnionFrom(epoch), Key: make([]byte, seal.KEMPublicSize)}},
			Capacity: uint32(1000 + draw.IntN(100_000)),
		}
		draw.Read(n.Link)
		draw.Read(n.Onion[0].Key)
		if i%5 < 2 {
			n.Roles = directory.RoleEntry | directory.RoleExit | directory.RoleMeeting
			n.Exit.Ports = []directory.PortRange{{First: 1, Last: 65535}}
		}
		list = append(list, n)
	}
	var err error
	d.Document, err = directory.Compose(directory.Header{Network: d.Trust.Network, Epoch: epoch}, list, signers, d.Wall)
	return d, err
}

func signerOf(draw *prng.Stream) (*seal.Signer, error) {
	var seed [seal.SignSeedSize]byte
	draw.Read(seed[:])
	return seal.NewSigner(&seed)
}

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

// rebuildDirectory is SCL-011: a server of the directory has lost all that it
// held in memory, and has to serve every node again.
func rebuildDirectory(r *Run) error {
	nodes := r.Scaled("nodes")
	r.Progress("makes a directory of %d nodes", nodes)
	source := r.Source("directory")
	if !r.Protected {
		return collectAgain(r, source, nodes)
	}
	d, err := newBigDirectory(source, nodes)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nyx-scl-011-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	begun := time.Now()
	if err := mirror.Save(dir, d.Document); err != nil {
		return err
	}
	r.ObserveTime("snapshot_written", time.Since(begun))
	begun = time.Now()
	got, err := mirror.Rebuild(dir, &d.Trust, d.Wall)
	if err != nil {
		return err
	}
	shelf := &mirror.Shelf{}
	shelf.Put(got)
	for range int(r.Param("rebuilds")) - 1 {
		r.Observe("directory_rebuild_duration", time.Since(begun).Seconds())
		begun = time.Now()
		if got, err = mirror.Rebuild(dir, &d.Trust, d.Wall); err != nil {
			return err
		}
		shelf = &mirror.Shelf{}
		shelf.Put(got)
	}
	r.Observe("directory_rebuild_duration", time.Since(begun).Seconds())
	return servesAll(r, shelf, d)
}

// servesAll is the check of health: every bucket is served, and is what the
// authorities have signed.
func servesAll(r *Run, shelf *mirror.Shelf, d *bigDirectory) error {
	got := shelf.Newest()
	if got == nil || got.Hash() != d.Hash() {
		return errors.New("what was rebuilt is another document")
	}
	known := 0
	for place := range got.Rows() {
		b, err := directory.ParseBucket(got.Bucket(place), &d.Header)
		if err != nil {
			return err
		}
		known += len(b.Nodes)
	}
	r.Tally("node_served", uint64(known), uint64(d.Count))
	r.Note("%d nodes in %d buckets, four shards", d.Count, d.Buckets)
	return nil
}

// distinctDescriptors is how many nodes the control signs for. Each is checked
// as often as it takes to come to the number of nodes: a check costs the same.
const distinctDescriptors = 50

// collectAgain is the control: what the directory knew is collected from the
// nodes, with the signature and the keys of each to be checked. It ends when it
// is past the bound for certain.
func collectAgain(r *Run, source prng.Source, nodes int) error {
	var descriptors [][]byte
	wall := time.Now().Unix()
	draw := source.Stream("keys")
	for i := range distinctDescriptors {
		signer, err := signerOf(draw)
		if err != nil {
			return err
		}
		var seed [seal.KEMSeedSize]byte
		draw.Read(seed[:])
		key, err := seal.NewKEMPrivate(&seed)
		if err != nil {
			return err
		}
		b, err := directory.SignDescriptor(signer, "lab", &directory.Node{
			Version: uint64(wall), Roles: directory.RoleMix, Operator: fmt.Sprintf("operator-%d", i), Region: "eu", Capacity: 1,
			Addrs: []netip.AddrPort{nodeAddr(mixNet, i)}, Link: key.Public().Bytes(), Onion: []directory.OnionKey{{Epoch: 1, Key: key.Public().Bytes()}},
		})
		if err != nil {
			return err
		}
		descriptors = append(descriptors, b)
	}
	limit := time.Duration(1.1 * r.Scenario.SLO[0].Bound * float64(time.Second))
	begun := time.Now()
	for i := range nodes {
		if _, err := directory.ParseDescriptor(descriptors[i%len(descriptors)]); err != nil {
			return err
		}
		if took := time.Since(begun); took > limit {
			r.Note("the control stopped past the bound, after %d descriptors", i)
			break
		}
	}
	r.Observe("directory_rebuild_duration", time.Since(begun).Seconds())
	r.Tally("node_served", 1, 1)
	return nil
}

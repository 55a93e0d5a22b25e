package mix

import (
	"github.com/nyxnet/nyx/internal/fec"
	"github.com/nyxnet/nyx/internal/wire"
)

func newTrainCode() *fec.Code { return fec.New(wire.TrainData, wire.TrainParity) }

// parity are the shards that a train carries beside the packet.
type parity [wire.TrainParity][wire.ShardSize]byte

// shards lays the twelve shards over a packet and its parity; a shard whose
// bit in have is not set gets length zero, to be rebuilt in place.
func shards(packet []byte, p *parity, have uint16) (all [wire.TrainFrames][]byte) {
	for i := range all {
		if i < wire.TrainData {
			all[i] = packet[i*wire.ShardSize : (i+1)*wire.ShardSize : (i+1)*wire.ShardSize]
		} else {
			all[i] = p[i-wire.TrainData][:]
		}
		if have&(1<<i) == 0 {
			all[i] = all[i][:0]
		}
	}
	return all
}

const (
	allShards  = 1<<wire.TrainFrames - 1
	dataShards = 1<<wire.TrainData - 1
)

// encodeTrain fills the parity of a packet.
func encodeTrain(packet []byte, p *parity) {
	all := shards(packet, p, allShards)
	if err := trainCode.Encode(all[:]); err != nil {
		panic("mix: shards of a train do not encode: " + err.Error())
	}
}

// writeShard fills a frame with one shard of a train.
func writeShard(f *wire.Frame, id uint32, index int, packet []byte, p *parity) {
	all := shards(packet, p, allShards)
	wire.PutShardHeader(f.B[:], id, index)
	copy(f.B[wire.ShardOffset:], all[index])
}

package sim

// packetMax is the room of PollTransmit: one datagram (wire.DatagramSize).
// Machines under test may send less.
const packetMax = 1280

// packet is one datagram under way. What the network looks at lies apart from
// the bytes, which only machines read: thousands of packets are under way, and
// their heads stay in the cache where their bodies do not.
type packet struct {
	from, to uint32 // address ids at sending
	origin   uint32 // node that sent it, or injected
	index    uint32
	size     uint16
	b        *[packetMax]byte
}

// injected is the origin of a datagram that no node sent.
const injected = ^uint32(0)

// packetSlab is how many packets one allocation makes.
const packetSlab = 64

// packetPool keeps packets for reuse, by index. The table of blocks stays in
// the cache where one of packets would not.
type packetPool struct {
	blocks []*[packetSlab]packet
	free   []uint32
}

func (p *packetPool) at(i uint32) *packet { return &p.blocks[i/packetSlab][i%packetSlab] }

func (p *packetPool) get() *packet {
	if len(p.free) == 0 {
		block, bodies := new([packetSlab]packet), new([packetSlab][packetMax]byte)
		first := uint32(len(p.blocks) * packetSlab)
		for i := range block {
			block[i].index, block[i].b = first+uint32(i), &bodies[i]
			p.free = append(p.free, block[i].index)
		}
		p.blocks = append(p.blocks, block)
	}
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return p.at(i)
}

// put takes a packet back and overwrites it: a machine that kept the slice it
// was lent finds its content gone.
func (p *packetPool) put(k *packet) {
	copy(k.b[:k.size], spoiled[:])
	p.free = append(p.free, k.index)
}

// spoiled overwrites what was borrowed.
var spoiled = func() (b [packetMax]byte) {
	for i := range b {
		b[i] = 0xdb
	}
	return b
}()

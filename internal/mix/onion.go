package mix

import (
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/wire"
)

// The set-up onion (docs/protocol.md, section 5), after Sphinx (Danezis and
// Goldberg 2009) with one KEM ciphertext per hop in place of a blinded group
// element, and HORNET (Chen et al. 2015). The padding at the last hop is
// random, not zero: zeros would tell it how long the route is (Kuhn et al.
// 2020).

// The packet is kept behind 64 bytes of room, so that a hop peels it in place:
// β moves to the front, and its routing falls into the room.
const (
	onionSize = wire.SetupRoutingSize + wire.SetupSize

	alphaAt = wire.SetupRoutingSize
	gammaAt = alphaAt + wire.SetupKEMSize
	betaAt  = gammaAt + wire.SetupMACSize
	deltaAt = betaAt + wire.SetupHeaderSize
)

type onion [onionSize]byte

// packet is what stands on a link.
func (o *onion) packet() []byte { return o[alphaAt:] }

var trainCode = newTrainCode()

// cellKeys seal the cells of the two directions of a route at one hop.
type cellKeys struct{ forward, back seal.Key }

func (k *cellKeys) clear() { k.forward.Clear(); k.back.Clear() }

// hopKeys are what a hop and the client share after a set-up.
type hopKeys struct {
	cellKeys
	delay seal.Key
}

func (k *hopKeys) clear() { k.cellKeys.clear(); k.delay.Clear() }

// setupKeys are used once, for the set-up itself.
type setupKeys struct {
	mac, header, payload seal.Key
}

func (k *setupKeys) clear() { k.mac.Clear(); k.header.Clear(); k.payload.Clear() }

func deriveSetup(secret *seal.Key) setupKeys {
	return setupKeys{
		mac:     seal.Derive(secret, "setup mac"),
		header:  seal.Derive(secret, "setup header"),
		payload: seal.Derive(secret, "setup payload"),
	}
}

func deriveHop(secret *seal.Key) hopKeys {
	return hopKeys{cellKeys: cellKeys{
		forward: seal.Derive(secret, "forward"),
		back:    seal.Derive(secret, "back"),
	}}
}

// delayKey is the key of the delays on the way back. It follows from what the
// client drew and not from the KEM's secret, so that runs of the simulator
// repeat: the KEM draws randomness of its own.
func delayKey(r *wire.Routing) seal.Key { return seal.Hash("delays back", r.DelaySeed[:]) }

// wrapStep is one hop as the client sees it while it builds the onion.
type wrapStep struct {
	secret  seal.Key
	alpha   [wire.SetupKEMSize]byte
	routing wire.Routing
}

// wrap builds the set-up packet for the entry into o. pad is the client's
// randomness, of wire.SetupHeaderSize bytes.
func wrap(o *onion, steps []wrapStep, first, pad []byte) {
	last := len(steps) - 1
	keys := make([]setupKeys, len(steps))
	for i := range steps {
		keys[i] = deriveSetup(&steps[i].secret)
	}
	filler := fillers(keys[:last])

	wire.PutFirstFlight(o[deltaAt:], first)
	beta := o[betaAt:deltaAt]
	copy(beta, pad)
	steps[last].routing.Append(beta[:0])
	seal.XORKeyStream(&keys[last].header, beta)
	copy(beta[len(beta)-len(filler):], filler)
	for i := last; ; i-- {
		seal.XORKeyStream(&keys[i].payload, o[deltaAt:])
		gamma := seal.MAC(&keys[i].mac, o[betaAt:])
		copy(o[alphaAt:], steps[i].alpha[:])
		copy(o[gammaAt:], gamma[:])
		keys[i].clear()
		if i == 0 {
			return
		}
		// The packet for hop i, less its last step, becomes part of β of i-1.
		copy(o[betaAt+wire.SetupRoutingSize:deltaAt], o[alphaAt:])
		steps[i-1].routing.Append(o[betaAt:betaAt])
		seal.XORKeyStream(&keys[i-1].header, beta)
	}
}

// fillers returns what the hops before the last append to β by opening zeros:
// the end of the β that the last hop gets.
func fillers(keys []setupKeys) []byte {
	const wide = wire.SetupHeaderSize + wire.SetupStepSize
	var filler []byte
	for i := range keys {
		stream := make([]byte, wide)
		tail := stream[wide-len(filler)-wire.SetupStepSize:]
		copy(tail, filler)
		seal.XORKeyStream(&keys[i].header, stream)
		filler = tail
	}
	return filler
}

// peelResult says how a peel ended.
type peelResult uint8

const (
	peelAuth      peelResult = iota // γ does not authenticate
	peelKey                         // malformed or low-order key in α
	peelMalformed                   // authentic, and yet not of this version
	peelDone
)

// peel opens the packet in o with a private key. If it reports peelDone, o
// holds the packet for the next hop, or, in δ, the first flight; otherwise
// peelKey and peelAuth leave o unchanged.
func peel(o *onion, key *seal.KEMPrivate) (keys hopKeys, r wire.Routing, result peelResult) {
	secret, err := key.Decapsulate(o[alphaAt:gammaAt])
	if err != nil {
		return keys, r, peelKey
	}
	defer secret.Clear()
	once := deriveSetup(&secret)
	defer once.clear()
	gamma := seal.MAC(&once.mac, o[betaAt:])
	if !seal.Equal(gamma[:], o[gammaAt:betaAt]) {
		return keys, r, peelAuth
	}
	copy(o[:], o[betaAt:deltaAt])
	clear(o[wire.SetupHeaderSize:deltaAt])
	seal.XORKeyStream(&once.header, o[:deltaAt])
	seal.XORKeyStream(&once.payload, o[deltaAt:])
	r, ok := wire.ParseRouting(o[:wire.SetupRoutingSize])
	if !ok || !seal.Suite(r.Suite).Valid() {
		return keys, r, peelMalformed
	}
	keys = deriveHop(&secret)
	keys.delay = delayKey(&r)
	return keys, r, peelDone
}

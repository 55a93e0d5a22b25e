package lab

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/nyxnet/nyx/internal/engine/secrets"
	"github.com/nyxnet/nyx/internal/gateway"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mix"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/secret"
	"github.com/nyxnet/nyx/internal/sim"
	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// Times of SCL-037. A node looks for new keys once in lookEvery, as daemon does.
const (
	lookEvery   = time.Second
	probeEvery  = 250 * time.Millisecond // with the new keys, from the request on
	publishLag  = time.Second            // until clients use a key that a node has
	settleAfter = 500 * time.Millisecond // for an answer to a SESSION_TERMINATE
)

// reloadKeys is SCL-037: Stream nodes take new onion and fleet keys from an encrypted
// key store, in turn, while set-ups and admissions go on under the old ones. The store is
// the real one, on this machine's disk; how long it takes is modelled, as time is.
func reloadKeys(r *Run) error {
	w, err := r.NewNetwork(Plan{Streams: int(r.Param("nodes")), Mixes: 10, Level: wire.Fast, Hop: sim.Link{Latency: 10 * time.Millisecond},
		Gateway: func(c *gateway.Config) { c.Policy.PerMinute = 1_000_000 }}) // who tries the keys comes often
	if err != nil {
		return err
	}
	store, remove, err := r.newKeyStore()
	if err != nil {
		return err
	}
	defer remove()
	v := &reloading{run: r, net: w, draw: w.Sim.Rand("reloads"), keys: r.Source("reloaded"), store: store}
	v.stays, v.leaves = v.newCaller(0), v.newCaller(1)
	for _, g := range w.Gateways {
		onion, ok := w.View.Onion(g.ID, w.View.Epoch())
		if !ok {
			return fmt.Errorf("no onion key of a Stream node in the directory")
		}
		k := &reloader{all: v, node: g, look: v.within(lookEvery), published: onion, fleet: w.fleet, keys: v.keys.Child(g.Node.Name)}
		v.nodes = append(v.nodes, k)
		w.Sim.After(v.within(time.Second), func(machine.Time) { k.admit(v.stays, nil) })
	}
	const warm = 3 * time.Second
	duration := time.Duration(r.Param("seconds") * r.Scale * float64(time.Second))
	end := machine.Time(warm + duration)
	gap := time.Duration(float64(time.Second) / r.Param("rotations_per_second"))
	for i, at := 0, machine.Time(warm); at < end; i, at = i+1, at.Add(gap) {
		w.Sim.At(at, func(machine.Time) { v.nodes[i%len(v.nodes)].request() })
	}
	live := time.Duration(float64(time.Second) / r.Param("setups_per_second"))
	for at := machine.Time(warm); at < end; at = at.Add(v.draw.Exp(live)) {
		k := v.nodes[v.draw.IntN(len(v.nodes))]
		w.Sim.At(at, func(machine.Time) { k.live() })
	}
	w.Sim.RunUntil(end.Add(answerWithin + publishLag))
	var refused uint64
	for _, g := range w.Gateways {
		refused += g.Core().Counts[trace.DropSetupAuth]
	}
	if v.failed != nil {
		return v.failed
	}
	held, err := store.List(context.Background(), "")
	if err != nil {
		return err
	}
	r.Note("%d rotations of the onion key and the fleet key of %d Stream nodes, which are %d secrets of the key store; %d attempts with a key that the node did not have yet, or no more", v.asked, len(v.nodes), len(held), refused)
	return nil
}

// reloading is one execution.
type reloading struct {
	run           *Run
	net           *Network
	draw          *prng.Stream
	keys          prng.Source
	nodes         []*reloader
	stays, leaves *keyCaller
	asked         int
	store         secret.Store
	failed        error // of the store
}

// newKeyStore makes an encrypted key store on disk that ends with the run.
func (r *Run) newKeyStore() (store secret.Store, remove func(), err error) {
	dir, err := os.MkdirTemp("", "nyx-lab-keys-")
	if err != nil {
		return nil, nil, err
	}
	key := &seal.Key{}
	r.Source("key store").Stream("key").Read(key[:])
	if store, err = secrets.CreateDisk(dir, secrets.Unlock{Key: key}); err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return store, func() { store.Close(); os.RemoveAll(dir) }, nil
}

// put makes a key the next version of a secret, and destroys those before the last.
func (v *reloading) put(name string, value []byte) {
	version, err := secret.Replace(context.Background(), v.store, name, value)
	if err == nil {
		err = v.store.Destroy(context.Background(), name, version-1)
	}
	v.failed = cmp.Or(v.failed, err)
}

// get reads a secret.
func (v *reloading) get(name string, into []byte) {
	s, err := v.store.Get(context.Background(), name, 0)
	if err == nil && copy(into, s.Value) != len(into) {
		err = fmt.Errorf("lab: secret %s has %d bytes", name, len(s.Value))
	}
	v.failed = cmp.Or(v.failed, err)
}

func (v *reloading) within(d time.Duration) time.Duration {
	return time.Duration(v.draw.Uint64N(uint64(d)))
}

// reloader is one Stream node's keys.
type reloader struct {
	all       *reloading
	node      *Gateway
	look      time.Duration // phase of its looks
	published *seal.KEMPublic
	fleet     seal.Key // that it has
	keys      prng.Source
	count     int
}

// request puts new keys in the node's store, which the node finds at its next
// look, and tries them until they are taken.
func (k *reloader) request() {
	v, s := k.all, k.all.net.Sim
	k.count++
	v.asked++
	draw := k.keys.Child(fmt.Sprint("rotation ", k.count)).Stream("keys")
	var seed [seal.KEMSeedSize]byte
	var fleet seal.Key
	draw.Read(seed[:])
	draw.Read(fleet[:])
	onion, err := seal.NewKEMPrivate(&seed)
	if err != nil {
		panic("lab: no onion key of a seed: " + err.Error())
	}
	name := k.node.Node.Name
	v.put(name+"/onion", seed[:])
	v.put(name+"/fleet", fleet[:])
	asked := s.Now()
	t := &trial{k: k, asked: asked, onion: onion.Public(), fleet: fleet, lasts: true}
	k.admit(v.leaves, func(ready *wire.SessionReady) {
		t.old = ready.Token
		v.run.Trial("token_of_the_key_before", opens(&k.fleet, &t.old))
	})
	look := (asked-machine.Time(k.look))/machine.Time(lookEvery)*machine.Time(lookEvery) + machine.Time(lookEvery+k.look)
	store := v.run.Duration("store_ms", time.Millisecond)
	s.At(look.Add(store/2+v.draw.Exp(store/2)), func(machine.Time) {
		var seed [seal.KEMSeedSize]byte
		var fleet seal.Key
		v.get(name+"/onion", seed[:])
		v.get(name+"/fleet", fleet[:])
		onion, err := seal.NewKEMPrivate(&seed)
		if err != nil {
			panic("lab: no onion key of a stored seed: " + err.Error())
		}
		s.Do(k.node.Node, func(now machine.Time) {
			core := k.node.Core()
			core.Table.RotateOnion(now, onion)
			if !v.run.Protected {
				core.Table.DropPrevious()
			}
			core.RotateFleet(now, &fleet)
			k.fleet = fleet
		})
	})
	t.try()
	s.After(answerWithin, func(machine.Time) { v.run.Trial("key_not_reloaded", t.lasts) })
}

// trial is the new keys of one rotation being tried.
type trial struct {
	k            *reloader
	asked        machine.Time
	onion        *seal.KEMPublic
	fleet        seal.Key
	old          wire.Token // of a session that was admitted before
	route, token bool       // what was made under the new keys
	lasts        bool
}

// try makes a set-up under the new onion key and asks for a token under the new
// fleet key, and again until the node has answered both.
func (t *trial) try() {
	s, v := t.k.all.net.Sim, t.k.all
	if !t.lasts || s.Now() > t.asked.Add(answerWithin) {
		return
	}
	if !t.route {
		v.setUp(t.k, t.onion, func() { t.route = true; t.taken() })
	}
	if !t.token {
		t.k.admit(v.stays, func(ready *wire.SessionReady) {
			if opens(&t.fleet, &ready.Token) {
				t.token = true
				t.taken()
			}
		})
	}
	s.After(probeEvery, func(machine.Time) { t.try() })
}

// taken is when the node has taken one of the keys. With both, the token of the
// key before must still end its session, and clients hear of the new onion key.
func (t *trial) taken() {
	if !t.lasts || !t.route || !t.token {
		return
	}
	t.lasts = false
	k, v, s := t.k, t.k.all, t.k.all.net.Sim
	v.run.Observe("key_reload_duration", s.Now().Sub(t.asked).Seconds())
	s.After(publishLag, func(machine.Time) { k.published = t.onion })
	v.leaves.push(k, func(f *wire.Frame) { wire.PutTerminate(f, &t.old) })
	s.After(settleAfter, func(machine.Time) { v.run.Trial("token_refused", k.node.Core().Admitted() != 1) })
}

// live is a set-up of a client that knows what is published.
func (k *reloader) live() {
	ready := false
	k.all.setUp(k, k.published, func() { ready = true })
	k.all.net.Sim.After(answerWithin/5, func(machine.Time) { k.all.run.Trial("setup_refused", !ready) })
}

// opens reports whether a token is sealed under a fleet key.
func opens(fleet *seal.Key, token *wire.Token) bool {
	key := seal.Derive(fleet, "session token")
	_, ok := seal.NewAEAD(seal.AES256GCM, &key).Open(nil, token[8:], nil, binary.BigEndian.Uint64(token[:]))
	return ok
}

// admit asks for a session of a caller at the node.
func (k *reloader) admit(c *keyCaller, done func(*wire.SessionReady)) {
	m := wire.SessionInit{ClientID: [16]byte{c.id}, Version: wire.AdmissionVersion}
	c.draw.Read(m.Nonce[:])
	if done != nil {
		c.asked[m.Nonce] = done
	}
	c.push(k, m.Put)
}

// setUp sends a set-up through the node under a key of it, over a mix to the next
// Stream node under the key that is published, and calls ready when it is answered.
func (v *reloading) setUp(k *reloader, onion *seal.KEMPublic, ready func()) {
	c, w := v.stays, v.net
	mid := w.Relays[v.draw.IntN(len(w.Relays))].ID
	key, _ := w.View.Onion(mid, w.View.Epoch())
	var last *reloader
	for last = k; last == k; {
		last = v.nodes[v.draw.IntN(len(v.nodes))]
	}
	hops := []mix.HopSpec{{ID: k.node.ID, Onion: onion}, {ID: mid, Onion: key}, {ID: last.node.ID, Onion: last.published}}
	c.serial++
	route, train, err := mix.Build(hops, wire.Fast, time.Minute, nil, c.rng.Child(fmt.Sprint("route ", c.serial)))
	if err != nil {
		panic("lab: no set-up of good keys: " + err.Error())
	}
	c.routes[route.ID()] = &triedRoute{route, ready}
	for i := range wire.TrainFrames {
		c.push(k, func(f *wire.Frame) { train.Frame(i, f) })
	}
	w.Sim.After(answerWithin/5, func(machine.Time) { delete(c.routes, route.ID()) })
}

// keyCaller is a client that has one link to each Stream node, and sends what the
// scenario makes.
type keyCaller struct {
	bare
	all    *reloading
	node   *sim.Node
	id     byte
	draw   *prng.Stream
	rng    prng.Source
	serial int
	asked  map[[16]byte]func(*wire.SessionReady) // by nonce
	routes map[uint32]*triedRoute
}

type triedRoute struct {
	core  *mix.Route
	ready func()
}

func (v *reloading) newCaller(i int) *keyCaller {
	c := &keyCaller{all: v, id: byte(i + 1), asked: map[[16]byte]func(*wire.SessionReady){}, routes: map[uint32]*triedRoute{}}
	c.node = v.net.Sim.AddNode(sim.NodeConfig{Name: fmt.Sprint("caller-", i), Addr: nodeAddr(userNet, i),
		New: func(_ machine.Time, rng prng.Source) machine.Machine {
			c.rng, c.draw = rng, rng.Stream("nonces")
			c.start(rng)
			return c
		}})
	return c
}

// push sends a frame that put writes to a Stream node.
func (c *keyCaller) push(k *reloader, put func(*wire.Frame)) {
	f := c.pool.Get()
	put(f)
	c.all.net.Sim.Do(c.node, func(now machine.Time) {
		key, at, _ := c.all.net.neighbour(k.node.ID)
		c.links.Push(c.links.Dial(now, k.node.ID, key, at), f)
	})
}

// HandleDatagram takes what a node answers.
func (c *keyCaller) HandleDatagram(now machine.Time, from netip.AddrPort, b []byte) {
	id, frame, ok := c.links.HandleDatagram(now, from, b)
	if !ok {
		return
	}
	switch wire.FrameType(frame[0]) {
	case wire.FrameAdmission:
		m, ok := wire.ParseAdmission(frame)
		if !ok || m.Kind != wire.AdmissionReady {
			return
		}
		if done := c.asked[m.Ready.Nonce]; done != nil {
			delete(c.asked, m.Ready.Nonce)
			done(&m.Ready)
		}
	case wire.FrameBack:
		r := c.routes[wire.FrameRouteID(frame)]
		if r == nil {
			return
		}
		if back, ok := r.core.Open(now, frame); ok && back.Kind == mix.BackPacket && wire.SessionPacketKind(back.Packet) == wire.SessionRouteReady {
			delete(c.routes, r.core.ID())
			f := c.pool.Get()
			r.core.SealClose(f)
			c.links.Push(id, f)
			r.ready()
		}
	}
}

package daemon

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/service"
	"github.com/nyxnet/nyx/internal/wire"
)

// A keeper takes a descriptor from who owns its place and has paid for it, and
// from nobody else.
func TestKeeperAsksForWorkAndProof(t *testing.T) {
	key, err := service.NewKey(prng.FromUint64(5))
	if err != nil {
		t.Fatal(err)
	}
	thief, _ := service.NewKey(prng.FromUint64(6))
	sealed, _ := service.Seal(key, &service.Descriptor{Expires: 1 << 40}, 7, 1)
	forged, _ := service.Seal(thief, &service.Descriptor{Expires: 1 << 40}, 7, 1)
	k := &keeper{id: wire.NodeID{1}, clock: drive.NewClock(), draw: prng.FromUint64(1).Stream("keeper")}
	ix := key.Address().Index(7)
	put := func(by *service.Key, sealed []byte, work int) (wire.Status, int) {
		t.Helper()
		c := k.challenge()
		p := &service.Publication{Index: ix, Sealed: sealed}
		if p.Nonce, err = findWork(t.Context(), c.Point, ix, work); err != nil {
			t.Fatal(err)
		}
		if err := by.Prove(p, 7, k.id, c.Point); err != nil {
			t.Fatal(err)
		}
		return k.put(c, p)
	}
	want := func(what string, status wire.Status, is wire.Status) {
		t.Helper()
		if status != is {
			t.Errorf("%s: status %v, want %v", what, status, is)
		}
	}
	status, price := put(key, sealed, 0)
	if want("no work", status, wire.StatusBusy); price != service.WorkLeast {
		t.Errorf("the price is %d", price)
	}
	status, _ = put(thief, forged, price)
	want("a squatter who has the address, before the service", status, wire.StatusNotAllowed)
	status, _ = put(key, sealed, price)
	want("the service", status, wire.StatusOK)
	status, _ = put(thief, forged, price)
	want("a squatter, after the service", status, wire.StatusNotAllowed)
	if !bytes.Equal(k.store.Get(k.clock.Now(), ix), sealed) {
		t.Error("the service's descriptor is gone")
	}
	newer, _ := service.Seal(key, &service.Descriptor{Sequence: 2, Expires: 1 << 40}, 7, 2)
	status, _ = put(key, newer, 0)
	want("the service again, without work", status, wire.StatusOK)
	k.store.PlacesMax = 1
	ix = thief.Address().Index(7)
	status, price = put(thief, forged, service.WorkLeast)
	if want("a full store", status, wire.StatusBusy); price <= service.WorkMost {
		t.Errorf("a full store names the price %d", price)
	}
}

// One keeper refuses and one is down: the service is published at the others,
// and found.
func TestServiceNeedsNotEveryKeeper(t *testing.T) {
	l, err := StartLocal(LocalConfig{Seed: [32]byte{1}, Streams: 5, Mixes: 6, Regions: 1, Client: client.Config{Level: wire.Fast}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // after the service's
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	key, err := service.NewKey(prng.FromUint64(5))
	if err != nil {
		t.Fatal(err)
	}
	keepers := l.Client.keepers(key.Address().Index(service.Period(time.Now().Unix())))
	filler, _ := service.Seal(key, &service.Descriptor{}, 0, 1)
	for _, n := range l.Nodes {
		switch n.ID() {
		case keepers[0]:
			n.keeper.mu.Lock()
			n.keeper.store.PlacesMax = 1
			n.keeper.store.Put(n.keeper.clock.Now(), service.Index{1}, filler)
			n.keeper.mu.Unlock()
		case keepers[1]:
			n.Close()
		}
	}
	offer(t, l, key, func(c net.Conn) { c.Write([]byte("hello")) })
	begun := time.Now()
	for { // a meeting at the node that is down may be drawn before it is replaced
		c, err := l.Client.DialStream(ctx, "caller", key.Address().String(), 80)
		if err == nil {
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(patience))
			if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
				t.Errorf("%q, %v", got, err)
			}
			t.Logf("found after %v", time.Since(begun))
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

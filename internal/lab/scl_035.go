package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/carrier/quic"
	"github.com/nyxnet/nyx/internal/carrier/websocket"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/wire"
)

// carrierKinds are the carriers that the scenario opens.
var carrierKinds = []joint.Kind{
	{Kind: directory.CarrierWebSocket, Dial: websocket.Dial, Listen: websocket.Listen},
	{Kind: directory.CarrierQUIC, Dial: quic.Dial, Listen: quic.Listen},
}

// openMax is how long a client waits for a carrier in this scenario: what takes
// longer counts with it.
const openMax = 10 * time.Second

// carrierHandshakes is SCL-035: clients come back at a rate, while another
// address floods the server.
func carrierHandshakes(r *Run) error {
	cert, err := front.SelfSigned("", time.Now())
	if err != nil {
		return err
	}
	node := &directory.Node{ID: wire.NodeID{35}, Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}}
	face := &front.Face{Certificate: cert, Path: front.Path(node.ID), Unbounded: !r.Protected}
	for _, k := range carrierKinds {
		server, err := k.Listen(netip.MustParseAddrPort("127.0.0.1:0"), face, echoPipe)
		if err != nil {
			return err
		}
		defer server.Close()
		c, err := face.Carrier(k.Kind, server.Addr().Port())
		if err != nil {
			return err
		}
		node.Carriers = append(node.Carriers, c)
	}
	doors := front.Doors(node)
	for i := range doors { // the first visit, which brings the ticket
		if err := visit(carrierKinds[i], &doors[i]); err != nil {
			return fmt.Errorf("carrier %v: %w", doors[i].Kind, err)
		}
	}
	hello, err := recordHello(&doors[0])
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var answered atomic.Int64
	flooded := flood(ctx, doors[0].Addr, hello, int(r.Param("flood_per_core")), &answered)
	gap := time.Duration(float64(time.Minute) / r.Param("handshakes_per_minute"))
	visits := int(r.Param("seconds") * r.Scale * float64(time.Second) / float64(gap))
	took := make([]time.Duration, visits)
	failed := make([]error, visits)
	var visiting sync.WaitGroup
	begun := time.Now()
	for i := range visits {
		due := begun.Add(time.Duration(i) * gap)
		time.Sleep(time.Until(due))
		visiting.Go(func() {
			failed[i] = visit(carrierKinds[i%len(doors)], &doors[i%len(doors)])
			took[i] = time.Since(due) // with what the generator is late
		})
	}
	visiting.Wait()
	offered := float64(visits) / time.Since(begun).Minutes()
	end()
	flooded.Wait()
	for i, d := range took {
		r.Trial("tls_handshake_failed", failed[i] != nil)
		r.ObserveTime("tls_handshake_duration", d)
	}
	c := face.Handshakes.Counts()
	r.Note("%d visits at %.0f a minute beside a flood of which %d hellos were answered and %d refused", visits, offered, answered.Load(), c.Refused)
	return nil
}

// echoPipe serves a pipe: each datagram goes back.
func echoPipe(p pipe.Pipe) {
	for {
		b, err := p.Receive()
		if err != nil || p.Send(bytes.Clone(b)) != nil {
			p.Close()
			return
		}
	}
}

// visit opens a carrier through a door until a datagram has come back.
func visit(k joint.Kind, d *front.Door) error {
	ctx, cancel := context.WithTimeout(context.Background(), openMax)
	defer cancel()
	p, err := k.Dial(ctx, d)
	if err != nil {
		return err
	}
	defer p.Close()
	defer context.AfterFunc(ctx, func() { p.Close() })()
	if err := p.Send(make([]byte, wire.DatagramSize)); err != nil {
		return err
	}
	_, err = p.Receive()
	return err
}

// recordHello is what a client without a ticket says first at a door.
func recordHello(d *front.Door) ([]byte, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	recorded := *d
	recorded.Addr = ln.Addr().(*net.TCPAddr).AddrPort()
	recorded.Forget()
	go visit(carrierKinds[0], &recorded)
	c, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var head [5]byte // of a TLS record: type, version, length
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	hello := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(c, hello)
	return append(head[:], hello...), err
}

// floodPause is how long the flood lets a connection be that was refused.
const floodPause = time.Second

// flood keeps many connections to a server busy, from an address of its own for
// each processor: each sends a hello, waits for the answer, leaves, and begins
// again. It costs the flood no cryptography. It ends with ctx.
func flood(ctx context.Context, to netip.AddrPort, hello []byte, perCore int, answered *atomic.Int64) *sync.WaitGroup {
	var running sync.WaitGroup
	for core := range runtime.NumCPU() {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 35, byte(1+core))}}
		for i := range perCore {
			running.Go(func() {
				pause := time.Duration(i) * floodPause / time.Duration(perCore) // they do not begin all at once
				for {
					select {
					case <-ctx.Done():
						return
					case <-time.After(pause):
					}
					pause = floodPause
					if floodOnce(ctx, &dialer, to, hello) {
						answered.Add(1)
						pause = 0
					}
				}
			})
		}
	}
	return &running
}

// floodOnce reports whether the hello was answered.
func floodOnce(ctx context.Context, dialer *net.Dialer, to netip.AddrPort, hello []byte) bool {
	c, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.Write(hello)
	n, _ := c.Read(make([]byte, 1))
	return n > 0
}

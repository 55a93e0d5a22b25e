// Package joint makes one carrier of several: UDP, and connections over which
// datagrams go where UDP does not pass (docs/protocol.md, section 15).
//
// A Client chooses for each entry how datagrams go, and falls back and returns
// by itself (choice.go). Its machine knows an entry by its UDP address however
// they go. A Server gives each connection an address, so that the node sees a
// link change its address when its client changes the carrier: the link layer's
// own change of address (section 4.6) moves it, and nothing above notices.
package joint

import (
	"context"
	"net/netip"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/front"
	"github.com/nyxnet/nyx/internal/carrier/pipe"
	"github.com/nyxnet/nyx/internal/directory"
)

// Carrier is what lies below, udp.Conn or mem.Conn, and what a Client and a
// Server are: see drive.Carrier.
type Carrier interface {
	Addr() netip.AddrPort
	Read(wait time.Duration) (n int, err error)
	At(i int) (b []byte, from netip.AddrPort)
	Wake()
	Next() []byte
	Commit(n int, to netip.AddrPort)
	Flush() error
	Close() error
}

// Kind is one kind of connections: how a client opens one, how a node takes
// them; nil where a program has no such side. Kinds stand in the order in which
// they are tried.
type Kind struct {
	Kind   directory.CarrierKind
	Dial   func(ctx context.Context, d *front.Door) (pipe.Pipe, error)
	Listen func(at netip.AddrPort, face *front.Face, accept func(pipe.Pipe)) (pipe.Listener, error)
}

// Use is which carriers a client uses.
type Use uint8

// Uses.
const (
	// Auto is UDP where it passes, and the kinds of connections where not.
	Auto Use = iota
	// UDP alone.
	UDP
	// Only connections: no datagram ever leaves by plain UDP, also where an
	// entry offers nothing else.
	Only
)

package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// drainNode has a node that is to stop leave first: its descriptor says a capacity
// of 0, clients take their routes elsewhere when their documents say so
// (docs/protocol.md, section 7.6), and it serves on meanwhile. It returns after d, or
// at once at a second signal, or when a part stops.
func drainNode(n *Node, d time.Duration, parts []running, log *slog.Logger) error {
	again, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n.Leave()
	log.Info("the node leaves the network and stops then; a second signal stops it at once", "after", d)
	ctx, cancel := context.WithTimeout(again, d)
	defer cancel()
	return wait(ctx, parts)
}

// Leave announces that the node will stop, in its descriptor and its reports:
// nobody draws it any more, and routes move away. It goes on to serve.
func (n *Node) Leave() {
	n.Drain()
	n.leaves.Store(true)
	n.teller.tell(audit.Event{Kind: audit.AdminAction, Action: "drain", Subject: n.cfg.Name})
	select {
	case n.changed <- struct{}{}:
	default: // a descriptor is about to be made
	}
}

// capacity is what the node says of itself.
func (n *Node) capacity() uint32 {
	if n.leaves.Load() {
		return 0
	}
	return n.cfg.Capacity
}

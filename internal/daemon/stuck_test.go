package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/carrier/joint"
	"github.com/nyxnet/nyx/internal/proxy"
)

// A dial for which no route can be set up says why, long before its context ends, as
// does the client's status; what stands goes on when the line is back. (Control: with
// nobody told of what is stuck the dial ends after the two handshakes of 15 s.)
func TestDialSaysWhyNoRouteStands(t *testing.T) {
	l, w := startBehindWall(t, false, joint.UDP)
	port := echoServer(t)
	conn := dial(t, l, "", port)
	defer conn.Close()
	roundTrip(t, conn, []byte("before"))
	if err := l.Client.Err(); err != nil {
		t.Error(err)
	}
	w.up.Store(true)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	l.Client.DialStream(over, "takes what was built ahead", "127.0.0.1", port)
	begun := time.Now()
	_, err := l.Client.DialStream(t.Context(), "begins now", "127.0.0.1", port)
	t.Logf("after %v: %v", time.Since(begun), err)
	if !errors.Is(err, proxy.ErrNetworkDown) || !contains(err, "set-up") || time.Since(begun) > 14*time.Second {
		t.Errorf("after %v the dial says %v", time.Since(begun), err)
	}
	if err := l.Client.Err(); !contains(err, "set-up") {
		t.Errorf("the client's status is %v", err)
	}
	w.up.Store(false)
	conn.SetDeadline(time.Now().Add(patience))
	roundTrip(t, conn, []byte("after"))
}

package exit

import (
	"context"
	"net/netip"
	"testing"
)

// A message beyond the bounds of a flow's look-ups is dropped before it is copied.
func TestDroppedMessagesAreNotCopied(t *testing.T) {
	x := New(Config{})
	defer x.Close()
	n := newNames(x, 1, func(netip.AddrPort, []byte) bool { return true })
	n.waiting["slow.example"] = make([]message, messagesPerName)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	n.ctx = ended // no look-up begins
	data := make([]byte, 16<<10)
	for _, host := range []string{"slow.example", "other.example"} {
		if a := testing.AllocsPerRun(100, func() { n.send(host, 53, data) }); a > 1 { // netip.ParseAddr makes an error
			t.Errorf("%.0f allocations for a message to %s that is dropped", a, host)
		}
	}
	if x.Counts.Busy.Load() == 0 {
		t.Error("nothing was dropped")
	}
}

package stream

import (
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/trace"
	"github.com/nyxnet/nyx/internal/wire"
)

// A packet whose seal has left no tag does not leave, and what it carried
// arrives all the same; a fault of every packet does not hang the sender.
func TestPacketsWithoutATagDoNotLeave(t *testing.T) {
	n := 0
	cfg := Config{Sealed: func(b []byte) {
		if n++; n%50 == 0 {
			clear(b[len(b)-wire.TagSize:])
		}
	}}
	w := established(t, 4, cfg, cfg)
	a := newApp(w)
	a.open(200_000, 200_000, PriorityNormal)
	a.finish(20 * time.Second)
	found := w.ccounts[trace.MissingAuthTags] + w.scounts[trace.MissingAuthTags]
	if found < 6 || w.ccounts[trace.DropSessionAuth]+w.scounts[trace.DropSessionAuth] != 0 {
		t.Errorf("%d packets without a tag were found, %d came", found, w.ccounts[trace.DropSessionAuth]+w.scounts[trace.DropSessionAuth])
	}

	w = established(t, 5, Config{}, Config{})
	w.client.cfg.Sealed = func(b []byte) { clear(b[len(b)-wire.TagSize:]) }
	id, _ := w.client.OpenStream(w.now, PriorityNormal)
	w.client.Write(w.now, id, make([]byte, 100_000))
	w.run(5 * time.Second)
	if w.ccounts[trace.MissingAuthTags] == 0 || w.scounts[trace.DropSessionAuth] != 0 {
		t.Error("a fault of every packet was not found")
	}
}

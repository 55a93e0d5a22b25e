package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// trimEvery is the interval at which the runtime collects by itself where
	// nothing is allocated: trimming in its place costs no more.
	trimEvery = 2 * time.Minute
	// trimShare is the share of what is in use that is worth a collection.
	trimShare = 8
)

// keepTrimmed gives memory that a rush of set-ups or a transfer has left back to
// the system, until ctx ends.
func keepTrimmed(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			TrimMemory()
		}
	}
}

// TrimMemory gives memory that is not in use back to the system, if it is much,
// and reports whether it was. A node calls it every two minutes.
func TrimMemory() bool {
	s := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	free, objects, live := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	if free+objects-min(objects, live) < live/trimShare {
		return false
	}
	debug.FreeOSMemory()
	return true
}

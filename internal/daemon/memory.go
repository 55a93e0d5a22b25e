package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// trimEvery is the interval at which the runtime collects by itself where little
// is allocated: trimming in its place costs no more.
const trimEvery = 2 * time.Minute

// keepTrimmed trims memory until ctx ends.
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

// TrimMemory gives memory that a rush of set-ups or a transfer has left back to
// the system. By itself the runtime keeps as much again as was in use, for the
// next rush. A node calls it every two minutes, package bench before it looks at
// a node's memory.
func TrimMemory() { debug.FreeOSMemory() }

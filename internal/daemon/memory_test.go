package daemon

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// What is not in use goes back to the system.
func TestTrimMemory(t *testing.T) {
	const size = 64 << 20
	rush := make([]byte, size)
	for i := range rush {
		rush[i] = 1
	}
	runtime.KeepAlive(rush)
	rush = nil
	TrimMemory()
	s := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	if metrics.Read(s); s[0].Value.Uint64() > size/2 {
		t.Errorf("%d bytes are kept that nothing uses", s[0].Value.Uint64())
	}
}

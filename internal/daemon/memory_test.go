package daemon

import (
	"runtime"
	"testing"
)

// What is much and not in use goes back to the system, once.
func TestTrimMemory(t *testing.T) {
	TrimMemory()
	rush := make([]byte, 256<<20)
	runtime.KeepAlive(rush)
	rush = nil
	if !TrimMemory() {
		t.Error("memory that a rush left is kept")
	}
	if TrimMemory() {
		t.Error("memory is trimmed that is in use")
	}
}

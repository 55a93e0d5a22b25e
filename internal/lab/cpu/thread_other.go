//go:build !linux

package cpu

import "time"

// Thread is Time where the system does not tell threads apart.
func Thread() time.Duration { return Time() }

//go:build !linux

package udp

import (
	"errors"
	"net"
)

// newBatch has no batches to offer on this system: plain serves.
func newBatch(*Conn, *net.UDPConn, Mode) (backend, error) { return nil, errors.ErrUnsupported }

// forceBuffers has no privileged way to larger buffers on this system.
func forceBuffers(*net.UDPConn, int) {}

package udp

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack bounds how much too early a set timer may stand.
const timerSlack = 10 * time.Millisecond

// timer wakes a reader at a time. The runtime's own timers are late by up to a
// millisecond while a process is idle, because its poller counts in whole
// milliseconds; a mix delay has a mean of ten. A timerfd is exact.
type timer struct {
	file *os.File
	raw  syscall.RawConn // of file
	wait sync.WaitGroup
	set  func(fd uintptr)
	spec unix.ItimerSpec // what set sets
	err  error           // what it returned
	base time.Time
	due  time.Duration // since base, when the timer is set to fire
}

// newTimer starts a goroutine that calls fire each time the timer is due.
func newTimer(fire func()) (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a timer: %w", err)
	}
	t := &timer{file: os.NewFile(uintptr(fd), "timer"), base: time.Now()}
	if t.raw, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return nil, err
	}
	t.set = func(fd uintptr) { t.err = unix.TimerfdSettime(int(fd), 0, &t.spec, nil) }
	t.wait.Go(func() {
		var ticks [8]byte
		for {
			if _, err := t.file.Read(ticks[:]); err != nil {
				return
			}
			fire()
		}
	})
	return t, nil
}

// arm makes the timer due after d, which is more than 0. If it is already due at some time before
// that, but not soon, it stays: the reader then wakes once in vain, which costs
// less than setting the timer for every datagram.
func (t *timer) arm(d time.Duration) error {
	now := time.Since(t.base)
	if t.due <= now+d && t.due > now+min(d/2, timerSlack) {
		return nil
	}
	t.due = now + d
	t.spec.Value = unix.NsecToTimespec(int64(d))
	if err := t.raw.Control(t.set); err != nil {
		return net.ErrClosed
	}
	return t.err
}

// close waits for the goroutine.
func (t *timer) close() {
	t.file.Close()
	t.wait.Wait()
}

package main

import "syscall"

// dieWithParent has the kernel end a child whose parent is gone, however the
// parent ended.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

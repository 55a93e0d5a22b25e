package sql

import (
	"syscall"
	"testing"
)

func asPostgres(t testing.TB, _ string) *syscall.SysProcAttr {
	t.Skip("no root on Windows")
	return nil
}

package sql

import (
	"syscall"
	"testing"
)

func asPostgres(t *testing.T, _ string) *syscall.SysProcAttr {
	t.Skip("no root on Windows")
	return nil
}

//go:build unix

package sql

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
	"testing"
)

// asPostgres gives a directory to the user "postgres", and says how to run as that.
func asPostgres(t testing.TB, dir string) *syscall.SysProcAttr {
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("root cannot run PostgreSQL, and there is no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

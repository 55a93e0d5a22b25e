// Package serverstest is for tests: it starts servers of others for one test, and skips
// the test where they are not built.
package serverstest

import (
	"testing"

	"github.com/nyxnet/nyx/internal/lab/servers"
)

// S3 starts a server with S3's API, with a bucket "locked", which has object lock, and a
// bucket "open", which has none.
func S3(t *testing.T) *servers.S3 {
	t.Helper()
	program, err := servers.Find(servers.VersityName)
	if err != nil {
		t.Skip(err)
	}
	s, err := servers.StartS3(program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	for name, lock := range map[string]bool{"locked": true, "open": false} {
		if err := s.Make(t.Context(), name, lock); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

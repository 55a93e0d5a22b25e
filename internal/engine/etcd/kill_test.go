package etcd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
)

// killDir is set in the process that is killed.
const killDir = "NYX_TEST_KILL_DIR"

// TestMain is that process: it signs document after document, and says so.
func TestMain(m *testing.M) {
	dir := os.Getenv(killDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Embedded(dir, "/nyx/kill/")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r := registry.New(s)
	for revision := uint32(1); ; revision++ {
		key := fmt.Sprint("beside/", revision)
		if _, err := s.Put(context.Background(), key, []byte(key), 0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if _, err := r.Sign(context.Background(), directory.Mark{Epoch: 1, Revision: revision}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("signed", revision)
	}
}

// TestKill: nothing that was acknowledged is lost with kill -9, at several moments.
// A mark beyond what was said may be there: the word of it was lost.
func TestKill(t *testing.T) {
	for round := range uint32(3) {
		dir := filepath.Join(t.TempDir(), "etcd")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		said := uint32(0)
		for lines := bufio.NewScanner(out); said < 20+round*37 && lines.Scan(); {
			if n, _ := fmt.Sscanf(lines.Text(), "signed %d", &said); n != 1 {
				t.Fatalf("the process says %q", lines.Text())
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		s, err := Embedded(dir, "/nyx/kill/")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := registry.New(s).Signed(t.Context())
		if err != nil || said == 0 || signed.Revision < said {
			t.Errorf("revision %d was acknowledged, %d is kept: %v", said, signed.Revision, err)
		}
		for revision := uint32(1); revision <= said; revision++ {
			key := fmt.Sprint("beside/", revision)
			if e, err := s.Get(t.Context(), key); err != nil || string(e.Value) != key {
				t.Errorf("%s was acknowledged, and is %q: %v", key, e.Value, err)
			}
		}
		s.Close()
	}
}

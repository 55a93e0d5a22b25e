package ledger

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/sql"
)

var kills = flag.Int("kills", 20, "how often TestKill kills")

// killDir is set in the process that is killed.
const killDir = "NYX_TEST_LEDGER"

// TestMain is that process: eight writers record event after event, and say which
// are acknowledged.
func TestMain(m *testing.M) {
	dir := os.Getenv(killDir)
	if dir == "" {
		flag.Parse()
		os.Exit(m.Run())
	}
	if step := os.Getenv(pruneStep); step != "" {
		fmt.Println("failed:", pruneKilled(dir, step))
		os.Exit(1)
	}
	fmt.Println("failed:", recordForever(dir))
	os.Exit(1)
}

func recordForever(dir string) error {
	keys, err := OpenFileKeys(filepath.Join(dir, "keys"), true)
	if err != nil {
		return err
	}
	l, err := Open(context.Background(), Config{Dir: dir, Origin: "nyx/test/kill", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper,
		CheckpointEvery: 5 * time.Millisecond, SegmentBytes: 64 << 10})
	if err != nil {
		return err
	}
	var out sync.Mutex
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				now := time.Now()
				events := make([]audit.Event, 1+rand.IntN(20))
				for i := range events {
					events[i] = event(i)
					events[i].ID = newID(now)
				}
				if err := l.Record(context.Background(), events...); err != nil {
					failed <- err
				}
				out.Lock()
				for i := range events {
					fmt.Println(events[i].ID)
				}
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill: kill -9 at drawn moments, again and again in one directory. Every event
// that was acknowledged is there once, the log verifies, and an index that is built
// from it equals it.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	acknowledged := map[audit.ID]bool{}
	draw := rand.New(rand.NewPCG(1, 2))
	torn := 0
	for range *kills {
		said := killed(t, dir, 100+draw.IntN(2000))
		for _, id := range said {
			acknowledged[id] = true
		}
		if len(said) == 0 {
			t.Fatal("nothing was acknowledged")
		}
	}
	keys, err := OpenFileKeys(filepath.Join(dir, "keys"), false)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Config{Dir: dir, Origin: "nyx/test/kill", Node: "control-1", Signer: keys.Signer, Wrapper: keys.Wrapper})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key, seen := l.Key(), map[audit.ID]bool{}
	v, _, err := l.Store().Verify(t.Context(), &key, nil, func(e audit.Entry) error {
		if seen[e.Event.ID] {
			t.Errorf("entry %d is there twice", e.Seq)
		}
		if e.Event.Action == "recover" {
			torn++
		}
		seen[e.Event.ID] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for id := range acknowledged {
		if !seen[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost", lost, len(acknowledged))
	}
	x, err := sql.SQLite(t.Context(), filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := x.Project(t.Context(), l.Store()); err != nil {
		t.Fatal(err)
	}
	if err := x.Compare(t.Context(), l.Store()); err != nil {
		t.Error(err)
	}
	t.Logf("%d kills, %d torn frames; %d events acknowledged, %d in the log, %d segments, %d checkpoints", *kills, torn, len(acknowledged), v.Entries, v.Segments, v.Checkpoints)
}

// killed runs the process until it has acknowledged so many events, and kills it.
func killed(t *testing.T, dir string, after int) (said []audit.ID) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, err := audit.ParseID(lines.Text())
		if err != nil {
			if len(said) < after {
				t.Errorf("the process says %q", lines.Text())
			}
			break // a line that was cut by the kill
		}
		if said = append(said, id); len(said) == after {
			cmd.Process.Kill() // and what was said meanwhile is read
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	return said
}

package bus

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/pipeline"
)

// kills is how often the process is killed: 20 times in each change, 100 now and then.
var kills = flag.Int("kills", 20, "how often the process that holds bus, pump and store is killed")

// killDir is set in the process that is killed.
const killDir = "NYX_TEST_KILL_DIR"

// TestMain is that process: it publishes events and brings them to a store, which is a
// file with a line for each event, and says what the bus has acknowledged.
func TestMain(m *testing.M) {
	dir := os.Getenv(killDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := publishAll(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func publishAll(dir string) error {
	b, err := Embedded(filepath.Join(dir, "bus"), "nyx", pipeline.Limits{Patience: time.Second, Tries: 1000})
	if err != nil {
		return err
	}
	store, err := os.OpenFile(filepath.Join(dir, "store"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	p := &pipeline.Pump{Bus: b, Store: &lineStore{file: store}}
	go p.Run(context.Background())
	var drawn [10]byte
	for n := uint64(0); ; n++ {
		var messages []pipeline.Message
		now := time.Now().UTC()
		said := "acknowledged"
		for i := range 8 {
			binary.BigEndian.PutUint64(drawn[:], n*8+uint64(i))
			e := audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: audit.KeyEvent, Actor: "tester", Action: "test", Count: 1}
			messages = append(messages, pipeline.Message{ID: e.ID, Payload: audit.Append(nil, &e)})
			said += " " + e.ID.String()
		}
		if _, err := b.Publish(context.Background(), pipeline.Lane(n%2), messages...); err != nil {
			return err
		}
		fmt.Println(said)
	}
}

// lineStore is a store whose acknowledgement is a sync.
type lineStore struct {
	mu   sync.Mutex
	file *os.File
}

func (s *lineStore) Record(_ context.Context, events ...audit.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines strings.Builder
	for _, e := range events {
		fmt.Fprintln(&lines, e.ID)
	}
	if _, err := s.file.WriteString(lines.String()); err != nil {
		return err
	}
	return s.file.Sync()
}

// TestKill: the process that holds the bus and the pump is killed, again and again
// over the same directory: every event that the bus has acknowledged is in the store
// or on the bus.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	said := map[string]bool{}
	for round := range *kills {
		killOnce(t, dir, 5+round*7%23, said)
	}
	kept := map[string]bool{}
	stored, err := os.ReadFile(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stored)) {
		kept[strings.TrimSpace(line)] = true
	}
	inStore := len(kept)
	b, err := Embedded(filepath.Join(dir, "bus"), "nyx", pipeline.Limits{Patience: time.Second, Tries: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for lane := range pipeline.NumLanes {
		remaining(t, b, lane, kept)
	}
	for id := range said {
		if !kept[id] {
			t.Errorf("event %s was acknowledged, and is nowhere", id)
		}
	}
	t.Logf("%d kills: %d events acknowledged, %d in the store", *kills, len(said), inStore)
}

// killOnce runs the process until it has said so many lines, and kills it.
func killOnce(t *testing.T, dir string, lines int, said map[string]bool) {
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
	for in := bufio.NewScanner(out); lines > 0 && in.Scan(); lines-- {
		ids, ok := strings.CutPrefix(in.Text(), "acknowledged ")
		if !ok {
			t.Fatalf("the process says %q", in.Text())
		}
		for id := range strings.SplitSeq(ids, " ") {
			said[id] = true
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if lines > 0 {
		t.Fatalf("the process ended by itself, %d lines early", lines)
	}
}

// remaining adds what a lane still has to what is kept.
func remaining(t *testing.T, b *Bus, lane pipeline.Lane, kept map[string]bool) {
	t.Helper()
	d, err := b.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for n := uint64(0); n < d.Waiting[lane]; {
		got, err := b.Receive(ctx, lane, 256)
		if err != nil {
			t.Fatalf("lane %v has %d of %d messages: %v", lane, n, d.Waiting[lane], err)
		}
		for i := range got {
			kept[hex.EncodeToString(got[i].ID[:])] = true
		}
		n += uint64(len(got))
		if err := b.Settle(ctx, got...); err != nil {
			t.Fatal(err)
		}
	}
}

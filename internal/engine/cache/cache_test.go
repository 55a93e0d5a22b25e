package cache

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// keep tests what holds for every cache.
func keep(t *testing.T, c Cache) {
	ctx := t.Context()
	want := func(key, value string) {
		t.Helper()
		b, ok := c.Get(ctx, key)
		if ok != (value != "") || string(b) != value {
			t.Fatalf("%s is %q, %v; want %q", key, b, ok, value)
		}
	}
	want("a", "")
	c.Set(ctx, "a", []byte("one"), time.Minute)
	want("a", "one")
	c.Set(ctx, "a", []byte("two"), time.Minute)
	want("a", "two")
	large := bytes.Repeat([]byte{0, 1, '\r', '\n'}, 64<<10)
	c.Set(ctx, "large", large, time.Minute)
	want("large", string(large))

	// Milliseconds: what is kept for 30 of them is gone after 31, and what is kept
	// for a minute is not.
	c.Set(ctx, "short", []byte("here"), 30*time.Millisecond)
	<-time.After(31 * time.Millisecond)
	want("short", "")
	want("a", "two")
	if hits, misses, faults, _ := c.Counts(); hits != 4 || misses != 2 || faults != 0 {
		t.Errorf("%d hits, %d misses, %d faults", hits, misses, faults)
	}
}

func TestLocal(t *testing.T) {
	c, err := NewLocal(32 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	keep(t, c)
}

// TestLocalIsBounded: by bytes.
func TestLocalIsBounded(t *testing.T) {
	c, err := NewLocal(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 100 {
		c.Set(t.Context(), fmt.Sprint(i), make([]byte, 100<<10), time.Minute)
	}
	c.kept.CleanUp()
	if size := c.kept.WeightedSize(); size > 1<<20 || size < 500<<10 {
		t.Errorf("%d bytes are kept", size)
	}
}

// server is a redis-server of Debian.
type server struct {
	address string
	cmd     *exec.Cmd
}

func startServer(t testing.TB, address string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server)")
	}
	if address == "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address = ln.Addr().String()
		ln.Close()
	}
	host, port, _ := net.SplitHostPort(address)
	s := &server{address, exec.Command(path, "--bind", host, "--port", port, "--save", "", "--dir", t.TempDir())}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	var said []byte
	for b := make([]byte, 4096); !bytes.Contains(said, []byte("Ready to accept connections")); {
		n, err := out.Read(b)
		if said = append(said, b[:n]...); err != nil {
			t.Fatalf("redis-server: %v\n%s", err, said)
		}
	}
	return s
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGCONT)
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func connected(t testing.TB, address string) *Redis {
	t.Helper()
	c, err := NewRedis("redis://"+address, "nyx/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.running.Wait()
	return c
}

func TestRedis(t *testing.T) {
	s := startServer(t, "")
	c := connected(t, s.address)
	keep(t, c)
	c.Set(t.Context(), "shared", []byte("by all"), time.Minute)
	other := connected(t, s.address)
	if b, ok := other.Get(t.Context(), "shared"); !ok || string(b) != "by all" {
		t.Errorf("another process gets %q, %v", b, ok)
	}
}

// TestRedisDies: a server that is killed, or stands still, costs one fault and is
// then left alone; when it is there again it is used again.
func TestRedisDies(t *testing.T) {
	s := startServer(t, "")
	c := connected(t, s.address)
	c.Set(t.Context(), "a", []byte("one"), time.Minute)
	want := func(ok bool, faults, skipped uint64) {
		t.Helper()
		_, found := c.Get(t.Context(), "a")
		if _, _, n, m := c.Counts(); found != ok || n != faults || m != skipped {
			t.Fatalf("found %v, %d faults and %d skipped; want %v, %d and %d", found, n, m, ok, faults, skipped)
		}
	}
	rested := func() { c.until.Store(0) }
	want(true, 0, 0)

	s.cmd.Process.Signal(syscall.SIGSTOP)
	want(false, 1, 0)
	c.Set(t.Context(), "a", []byte("two"), time.Minute)
	want(false, 1, 2)
	s.cmd.Process.Signal(syscall.SIGCONT)
	rested()
	want(true, 1, 2)

	s.stop()
	want(false, 2, 2)
	want(false, 2, 3)
	startServer(t, s.address)
	// The first requests go into connections of the server that died.
	for tries := 1; ; tries++ {
		rested()
		c.Set(t.Context(), "a", []byte("three"), time.Minute)
		if b, ok := c.Get(t.Context(), "a"); ok && string(b) == "three" {
			return
		}
		if tries == 100 {
			t.Fatal("the server that came after is not used")
		}
	}
}

// TestRedisNotThere: the server comes after the cache.
func TestRedisNotThere(t *testing.T) {
	s := startServer(t, "")
	s.stop()
	c := connected(t, s.address)
	_, ok := c.Get(t.Context(), "a")
	if _, _, faults, _ := c.Counts(); ok || faults != 1 {
		t.Fatalf("found %v, %d faults", ok, faults)
	}
	startServer(t, s.address)
	c.until.Store(0)
	c.Get(t.Context(), "a") // has a connection made
	c.running.Wait()
	c.Set(t.Context(), "a", []byte("one"), time.Minute)
	if b, ok := c.Get(t.Context(), "a"); !ok || string(b) != "one" {
		t.Errorf("%q, %v", b, ok)
	}
	if _, err := NewRedis("http://"+s.address, ""); err == nil {
		t.Error("a URL of another protocol is taken")
	}
}

func BenchmarkGet(b *testing.B) {
	bucket := make([]byte, 170<<10)
	local, err := NewLocal(32 << 20)
	if err != nil {
		b.Fatal(err)
	}
	defer local.Close()
	for name, c := range map[string]func(*testing.B) Cache{
		"local": func(*testing.B) Cache { return local },
		"redis": func(b *testing.B) Cache { return connected(b, startServer(b, "").address) },
	} {
		b.Run(name, func(b *testing.B) {
			c := c(b)
			c.Set(b.Context(), "bucket", bucket, time.Hour)
			for b.Loop() {
				if _, ok := c.Get(b.Context(), "bucket"); !ok {
					b.Fatal("not there")
				}
			}
		})
	}
}

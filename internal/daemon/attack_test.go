package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/lab/stall"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/proxy"
	"github.com/nyxnet/nyx/internal/seal"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// socks speaks SOCKS5 to the network's front door and returns the address that
// it answers with.
func socks(t *testing.T, l *Local, command byte, port uint16) (net.Conn, netip.AddrPort) {
	t.Helper()
	c, err := net.Dial("tcp", l.Socks())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	c.Write([]byte{5, 1, 0})
	var greeting [2]byte
	if _, err := io.ReadFull(c, greeting[:]); err != nil || greeting != [2]byte{5, 0} {
		t.Fatalf("greeting %v, %v", greeting, err)
	}
	c.Write(binary.BigEndian.AppendUint16([]byte{5, command, 0, 1, 127, 0, 0, 1}, port))
	var answer [10]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil || answer[1] != 0 {
		t.Fatalf("answer %v, %v", answer, err)
	}
	a, _ := netip.AddrFromSlice(answer[4:8])
	return c, netip.AddrPortFrom(a, binary.BigEndian.Uint16(answer[8:]))
}

// UDP messages cross the network through SOCKS UDP ASSOCIATE, those that need
// several packets too.
func TestUDPAssociate(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { echo.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			echo.WriteTo(b[:n], from)
		}
	}()
	_, relay := socks(t, l, 3, 0)
	c, err := net.Dial("udp", relay.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	header := binary.BigEndian.AppendUint16([]byte{0, 0, 0, 1, 127, 0, 0, 1}, uint16(echo.LocalAddr().(*net.UDPAddr).Port))
	b := make([]byte, 65536)
	for _, size := range []int{1, 1200, 4000, 9000} {
		want := append(bytes.Clone(header), bytes.Repeat([]byte{byte(size)}, size)...)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], want) {
			t.Errorf("message of %d bytes: %d came back, %v", size, n, err)
		}
	}
}

// A node of the active route that goes away costs a transfer nothing but time.
func TestNodeDiesDuringTransfer(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	c := dial(t, l, "", echoServer(t))
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	payload := make([]byte, 24<<20)
	rand.Read(payload)
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(payload)
		c.(interface{ CloseWrite() error }).CloseWrite()
		wrote <- err
	}()
	hash := sha256.New()
	if _, err := io.CopyN(hash, c, 2<<20); err != nil {
		t.Fatal(err)
	}
	if err := busiest(l).Close(); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(hash, c)
	if err != nil || !bytes.Equal(hash.Sum(nil), sum(payload)) {
		t.Fatalf("%d bytes of %d came back, %v", n+2<<20, len(payload), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

// A network stops within the time that its contract gives it, whatever is open.
func TestCloseWithOpenStreams(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := StartLocal(LocalConfig{Seed: [32]byte{2}, Streams: 3, Mixes: 4, Socks: "127.0.0.1:0", Client: client.Config{Level: wire.Fast}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Client.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	var writing []chan error
	for i := range 8 {
		c := dial(t, l, string(rune('a'+i%3)), port)
		defer c.Close()
		ended := make(chan error, 1)
		writing = append(writing, ended)
		go func() { _, err := c.Write(make([]byte, 64<<20)); ended <- err }()
	}
	socks(t, l, 1, port)
	socks(t, l, 3, 0)
	begun := time.Now()
	over, stop := stall.After(5 * time.Second)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	stop()
	select {
	case <-over:
		t.Errorf("closing took %v", time.Since(begun))
	default:
	}
	for _, ended := range writing {
		if <-ended == nil {
			t.Error("a write to who reads nothing succeeded")
		}
	}
}

// Streams of different isolation keys have different sessions at the exits.
func TestIsolationKeysHaveSessionsOfTheirOwn(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	port := echoServer(t)
	seen := map[uint32]string{}
	for _, key := range []string{"alice", "bob", "alice\x00bob"} {
		ids := map[uint32]bool{}
		for range 3 {
			c := dial(t, l, key, port)
			defer c.Close()
			ids[c.(*tunnel.Conn).Ref().Session] = true
		}
		for id := range ids {
			if other, ok := seen[id]; ok || len(ids) != 1 {
				t.Errorf("%q has %d sessions, one with %q", key, len(ids), other)
			}
			seen[id] = key
		}
	}
}

// An address that only looks like a service's is asked of nobody.
func TestServiceNamesStayInside(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	before := streamsOpened(l)
	for _, host := range []string{"mistyped.nyx", "descriptors.nyx", "ABC.NYX", "abc.nyx."} {
		if _, err := l.Client.DialStream(t.Context(), "", host, 80); !errors.Is(err, proxy.ErrHostUnreachable) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if n := streamsOpened(l); n != before {
		t.Errorf("%d streams were opened for it", n-before)
	}
}

func streamsOpened(l *Local) (n int) {
	l.Client.Do(func(_ machine.Time, core *client.Client) {
		for _, m := range core.Members() {
			n += m.Core.Stats().Streams
		}
	})
	return n
}

// A directory that serves nonsense, or a document with too few signatures, gets
// a client nowhere, and the client says what is wrong.
func TestBadDirectories(t *testing.T) {
	l := startNetwork(t, wire.Fast)
	get := func(path string) []byte {
		resp, err := http.Get(l.Authority.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	genuine, table := get(documentPath), get(mirror.TablePath)
	trust := directory.Trust{Network: localName, Threshold: localThreshold}
	for i := range localAuthorities {
		s, err := newSigner(prng.New([32]byte{1}), "authority/"+string(rune('0'+i)))
		if err != nil {
			t.Fatal(err)
		}
		trust.Authorities = append(trust.Authorities, s.Public())
	}
	strict := trust
	strict.Authorities = append([][]byte{}, trust.Authorities...)
	for i := 1; i < localAuthorities; i++ { // it trusts one of the signers only
		s, err := seal.NewSigner(&[seal.SignSeedSize]byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		strict.Authorities[i] = s.Public()
	}
	broken := bytes.Clone(genuine)
	broken[len(broken)/2] ^= 1
	for _, c := range []struct {
		name  string
		serve []byte
		code  int
		trust directory.Trust
		want  string
	}{
		{"nonsense", []byte("<html>no directory</html>"), 200, trust, "directory"},
		{"nothing", nil, 200, trust, "directory"},
		{"a flipped bit", broken, 200, trust, "directory"},
		{"too few signatures", genuine, 200, strict, "signature"},
		{"an error", nil, 500, trust, "500"},
		{"no document yet", nil, 503, trust, "waits for its nodes"},
		{"genuine", genuine, 200, trust, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == bulletinPath {
					return
				}
				select {
				case asked <- struct{}{}:
				default:
				}
				w.WriteHeader(c.code)
				if bytes.Equal(c.serve, genuine) && r.URL.Path == mirror.TablePath {
					w.Write(table)
					return
				}
				w.Write(c.serve)
			}))
			defer server.Close()
			cl, err := StartClient(ClientConfig{Trust: c.trust, Directories: []string{server.URL}, Listen: loopback(0)}, prng.FromUint64(9))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if c.want == "" {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := cl.WaitReady(ctx); err != nil {
					t.Error(err)
				}
				return
			}
			<-asked
			<-asked // the first answer has been looked at
			if err := cl.why(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("why: %v, want %q", err, c.want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := cl.WaitReady(ctx); !errors.Is(err, proxy.ErrNetworkDown) {
				t.Errorf("ready: %v", err)
			}
			if _, err := cl.DialStream(t.Context(), "", "example.com", 80); !errors.Is(err, proxy.ErrNetworkDown) {
				t.Errorf("dial: %v", err)
			}
		})
	}
}

package exit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/exit"
	"github.com/nyxnet/nyx/internal/lab/duo"
	"github.com/nyxnet/nyx/internal/stream"
	"github.com/nyxnet/nyx/internal/tunnel"
	"github.com/nyxnet/nyx/internal/wire"
)

// echoUDP answers each datagram with what it holds, and hands over its sender.
func echoUDP(t *testing.T) (port uint16, senders chan net.Addr) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	senders = make(chan net.Addr, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			senders <- from
			conn.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port), senders
}

func TestDatagramsReachTheirTargets(t *testing.T) {
	resolver, _ := names(t, map[string][]string{"echo.example.": {"127.0.0.1"}})
	p, x := start(t, exit.Config{Resolver: resolver, Policy: exit.Policy{AllowPrivate: true, Ports: func(p uint16) bool { return p != 25 }}})
	port, senders := echoUDP(t)
	c, status := request(t, p, wire.UDP, "0.0.0.0", 0)
	if status != wire.StatusOK {
		t.Fatal(status)
	}
	flow := tunnel.NewDatagrams(c)
	for _, host := range []string{"127.0.0.1", "echo.example", "echo.example"} {
		for _, size := range []int{10, 4000, 9000} {
			data := bytes.Repeat([]byte{byte(size)}, size)
			flow.Send("127.0.0.1", 25, data)     // no such port here
			flow.Send("nowhere.example", 1, nil) // no such name
			if err := flow.Send(host, port, data); err != nil {
				t.Fatal(err)
			}
			from, at, got, err := flow.Receive()
			if err != nil || from != "127.0.0.1" || at != port || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes to %s: %d bytes from %s:%d, %v", size, host, len(got), from, at, err)
			}
		}
	}
	strangersHaveNoSay(t, flow, port, <-senders)
	flow.Close()
	x.Close() // every message has been dealt with
	if n := x.Counts.Refused.Load() + x.Counts.Busy.Load(); n != 18 {
		t.Errorf("%d messages refused, want 18", n)
	}
}

// A resolver that does not answer holds up the messages to its names, within
// bounds, and no others.
func TestSlowResolverHoldsUpNobodyElse(t *testing.T) {
	asked, answer := make(chan struct{}, 1000), make(chan struct{})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return nil, errors.New("no answer")
	}}
	p, x := start(t, exit.Config{Resolver: resolver, Policy: exit.Policy{AllowPrivate: true}, DialTimeout: time.Hour})
	port, senders := echoUDP(t)
	c, _ := request(t, p, wire.UDP, "0.0.0.0", 0)
	flow := tunnel.NewDatagrams(c)
	exchange := func(say string) {
		t.Helper()
		if err := flow.Send("127.0.0.1", port, []byte(say)); err != nil {
			t.Fatal(err)
		}
		if _, _, got, err := flow.Receive(); err != nil || string(got) != say {
			t.Fatalf("%q came back, %v", got, err)
		}
		<-senders
	}
	for i := range 20 {
		for range 10 {
			flow.Send(fmt.Sprintf("name-%d.example", i), port, make([]byte, 100))
		}
		exchange("meanwhile")
	}
	<-asked
	if n := x.Counts.Busy.Load(); n < 140 || n > 200-8*4 {
		t.Errorf("%d of 200 messages were dropped at the bounds, want %d and what a network loses", n, 200-8*4)
	}
	close(answer)
	exchange("afterwards")
	flow.Close()
}

// A session that asks a dead resolver for all the names that it can takes half
// of the look-ups at most: another's are still made. (Control: with the bound on
// all of them alone, the second session's messages are dropped.)
func TestOneSessionDoesNotTakeAllLookups(t *testing.T) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	greedy, x := start(t, exit.Config{Resolver: resolver, Policy: exit.Policy{AllowPrivate: true}, DialTimeout: time.Hour})
	modest, err := duo.NewSeeded(2, stream.Config{}, x.Serve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(modest.Close)
	port, senders := echoUDP(t)
	ask := func(p *duo.Pair, name string) {
		c, _ := request(t, p, wire.UDP, "0.0.0.0", 0)
		flow := tunnel.NewDatagrams(c)
		for i := range exit.LookupsPerFlow {
			flow.Send(fmt.Sprintf("%s-%d.example", name, i), port, nil)
		}
		if err := flow.Send("127.0.0.1", port, []byte("all were taken")); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := flow.Receive(); err != nil {
			t.Fatal(err)
		}
		<-senders
	}
	for i := range exit.LookupsMax/exit.LookupsPerFlow + 1 {
		ask(greedy, fmt.Sprint("greedy-", i))
	}
	busy := x.Counts.Busy.Load()
	if n := exit.LookupsMax + exit.LookupsPerFlow - int(busy); n > exit.LookupsMax/2 || n < exit.LookupsMax/2-64 {
		t.Errorf("one session has %d names looked up, want %d, less what a network loses", n, exit.LookupsMax/2)
	}
	ask(modest, "modest")
	if n := x.Counts.Busy.Load() - busy; n != 0 {
		t.Errorf("%d of another session's %d names were not looked up", n, exit.LookupsPerFlow)
	}
}

// strangersHaveNoSay: a datagram of an address to which the flow has not sent
// does not reach its client.
func strangersHaveNoSay(t *testing.T, flow *tunnel.Datagrams, port uint16, socket net.Addr) {
	t.Helper()
	other, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 7, 7, 7)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: socket.(*net.UDPAddr).Port})
	if err != nil {
		t.Skipf("one loopback address only: %v", err)
	}
	defer other.Close()
	other.Write([]byte("marked"))
	flow.Send("127.0.0.1", port, []byte("asked"))
	if _, _, got, err := flow.Receive(); err != nil || string(got) != "asked" {
		t.Errorf("%q, %v", got, err)
	}
}

// A flow that its client gives up releases its socket at once.
func TestFlowsEndWithTheirStreams(t *testing.T) {
	p, x := start(t, exit.Config{Policy: exit.Policy{AllowPrivate: true}})
	port, senders := echoUDP(t)
	c, _ := request(t, p, wire.UDP, "0.0.0.0", 0)
	flow := tunnel.NewDatagrams(c)
	flow.Send("127.0.0.1", port, []byte("x"))
	socket := (<-senders).(*net.UDPAddr)
	flow.Close()
	deadline := time.Now().Add(limit)
	for {
		again, err := net.ListenUDP("udp", &net.UDPAddr{Port: socket.Port})
		if err == nil {
			again.Close()
			break
		}
		runtime.Gosched()
		if time.Now().After(deadline) {
			t.Fatalf("the flow's socket is held by %d streams: %v", x.Counts.Active.Load(), err)
		}
	}
}

// Private targets of messages are refused as those of streams are.
func TestDatagramPolicy(t *testing.T) {
	p, x := start(t, exit.Config{})
	port, senders := echoUDP(t)
	c, _ := request(t, p, wire.UDP, "0.0.0.0", 0)
	flow := tunnel.NewDatagrams(c)
	private := []string{"127.0.0.1", "::1", "localhost", "::ffff:127.0.0.1"}
	for _, host := range private {
		flow.Send(host, port, []byte("x"))
	}
	deadline := time.Now().Add(limit)
	for x.Counts.Refused.Load() < uint64(len(private)) {
		select {
		case from := <-senders:
			t.Fatalf("a message of %v reached a private target", from)
		default:
			runtime.Gosched()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages refused of %d", x.Counts.Refused.Load(), len(private))
		}
	}
	flow.Close()
}

package inbox

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	peer    = netip.MustParseAddrPort("192.0.2.7:7")
	errGone = errors.New("gone")
)

func wantRead(t *testing.T, in *Inbox, wait time.Duration, want int) {
	t.Helper()
	if n, err := in.Read(wait); n != want || err != nil {
		t.Fatalf("Read = %d, %v; want %d datagrams", n, err, want)
	}
}

func TestReadTakesAllInOrder(t *testing.T) {
	in := New(100)
	for i := range 20 {
		if !in.Put([]byte{byte(i), 'x'}, peer) {
			t.Fatal("no room")
		}
	}
	wantRead(t, in, -1, 20)
	for i := range 20 {
		b, from := in.At(i)
		if len(b) != 2 || b[0] != byte(i) || from != peer {
			t.Errorf("datagram %d is %q from %v", i, b, from)
		}
	}
	wantRead(t, in, 0, 0)
}

func TestFullInboxRefusesUntilTheReaderIsDone(t *testing.T) {
	in := New(10)
	for in.Put([]byte("a"), peer) {
	}
	if in.Len() != 10 {
		t.Fatalf("holds %d, want 10", in.Len())
	}
	wantRead(t, in, 0, 10)
	if in.Put([]byte("b"), peer) {
		t.Error("took a datagram while the reader still owned all slots")
	}
	wantRead(t, in, 0, 0)
	if !in.Put([]byte("b"), peer) {
		t.Error("no room though the reader has given its slots back")
	}
	if in.Put(make([]byte, SlotSize+1), peer) {
		t.Error("took more than a slot holds")
	}
}

func TestReadEndsAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(10)
		for range 3 { // the timer is reused
			start := time.Now()
			wantRead(t, in, 300*time.Microsecond, 0)
			if d := time.Since(start); d != 300*time.Microsecond {
				t.Errorf("waited %v", d)
			}
		}
	})
}

func TestReadEndsWithADatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(10)
		start := time.Now()
		time.AfterFunc(time.Second, func() { in.Put([]byte("a"), peer) })
		wantRead(t, in, time.Minute, 1)
		time.AfterFunc(time.Second, func() { in.Put([]byte("a"), peer) })
		wantRead(t, in, -1, 1)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(10)
		in.Wake()
		in.Wake()
		wantRead(t, in, -1, 0) // a wake-up before the wait counts, once
		start := time.Now()
		wantRead(t, in, time.Second, 0)
		time.AfterFunc(time.Second, in.Wake)
		wantRead(t, in, -1, 0)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

func TestReserveWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(2)
		pumped := 0
		go func() {
			for b := in.Reserve(); b != nil; b = in.Reserve() {
				pumped++
				in.Deliver(b, copy(b, "abc"), peer)
			}
			pumped = -pumped
		}()
		synctest.Wait()
		if pumped != 2 {
			t.Fatalf("pumped %d into an inbox of 2", pumped)
		}
		wantRead(t, in, -1, 2)
		wantRead(t, in, -1, 2)
		in.Close(errGone)
		in.Close(errors.New("second"))
		synctest.Wait()
		if pumped >= 0 {
			t.Error("the pump did not end")
		}
		if _, err := in.Read(-1); !errors.Is(err, errGone) {
			t.Errorf("Read after Close: %v", err)
		}
		if in.Put([]byte("a"), peer) {
			t.Error("Put after Close")
		}
	})
}

func TestNoAllocation(t *testing.T) {
	in := New(64)
	b := make([]byte, 1280)
	if n := testing.AllocsPerRun(100, func() {
		for range 32 {
			in.Put(b, peer)
		}
		in.Read(time.Second)
		in.Read(time.Microsecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

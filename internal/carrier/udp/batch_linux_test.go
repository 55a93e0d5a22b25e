package udp

import (
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// scripted replaces the socket's sendmmsg: each call is told by answer how many
// of the messages offered go out, and with which error.
func scripted(c *Conn, answer func(part []mmsghdr) (int, unix.Errno)) *batch {
	b := c.io.(*batch)
	real := b.tryWrite
	b.tryWrite = func(fd uintptr) {
		whole := b.part
		n, errno := answer(whole)
		if errno != 0 {
			b.writeN, b.writeErr = 0, errno
			return
		}
		b.part = whole[:n]
		real(fd)
		b.part = whole
	}
	return b
}

func setOption(t *testing.T, c *Conn, level, option int) {
	t.Helper()
	var raw syscall.RawConn
	switch io := c.io.(type) {
	case *batch:
		raw = io.raw
	case *plain:
		raw, _ = io.sock.SyscallConn()
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), level, option, 1); err != nil {
			t.Fatal(err)
		}
	})
}

func segmented(m *mmsghdr) bool { return m.hdr.Control != nil }

func TestErrorsOfOneMessageDoNotStopTheRest(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EMSGSIZE, unix.ENOBUFS, unix.EPERM, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL} {
		src, dst := listen(t, loopback4, Batch), listen(t, loopback4, Batch)
		calls := 0
		scripted(src, func(part []mmsghdr) (int, unix.Errno) {
			if calls++; calls == 2 {
				return 0, errno
			}
			return min(2, len(part)), 0
		})
		for i := range 5 {
			put(t, src, byte(i), 1280, dst.Addr())
		}
		if err := src.Flush(); err != nil {
			t.Fatalf("%v ended the socket: %v", errno, err)
		}
		wantDatagrams(t, dst, src.Addr(), [2]int{0, 1280}, [2]int{1, 1280}, [2]int{3, 1280}, [2]int{4, 1280})
		if s := src.Stats(); s.SendDropped != 1 || s.Sent != 4 {
			t.Errorf("%v: stats %+v", errno, s)
		}
	}
}

func TestRefusedConnectionIsRetriedOnce(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	calls := 0
	scripted(src, func(part []mmsghdr) (int, unix.Errno) {
		if calls++; calls == 1 {
			return 0, unix.ECONNREFUSED
		}
		return len(part), 0
	})
	put(t, src, 1, 1280, dst.Addr())
	put(t, src, 2, 1280, dst.Addr())
	src.Flush()
	wantDatagrams(t, dst, src.Addr(), [2]int{1, 1280}, [2]int{2, 1280})

	scripted(src, func([]mmsghdr) (int, unix.Errno) { return 0, unix.ECONNREFUSED })
	put(t, src, 1, 1280, dst.Addr())
	if err := src.Flush(); err != nil || src.Stats().SendDropped != 1 {
		t.Errorf("lasting refusal: %v, %+v", err, src.Stats())
	}
}

// A socket that is told of unreachable ports (IP_RECVERR) returns the error of
// one peer from calls about others.
func TestPortUnreachableDoesNotStopTheSocket(t *testing.T) {
	for _, mode := range []Mode{Offload, Plain} {
		src, dst, gone := listen(t, loopback4, mode), listen(t, loopback4, mode), listen(t, loopback4, mode)
		gone.Close()
		setOption(t, src, unix.IPPROTO_IP, unix.IP_RECVERR)
		for i := range 20 {
			put(t, src, 99, 1280, gone.Addr())
			src.Flush()
			put(t, src, byte(i), 1280, dst.Addr())
			if err := src.Flush(); err != nil {
				t.Fatal(err)
			}
			wantDatagrams(t, dst, src.Addr(), [2]int{i, 1280})
			put(t, src, 99, 1280, gone.Addr())
			src.Flush()
			put(t, dst, byte(i), 1280, src.Addr())
			dst.Flush()
			for n := 0; n == 0; {
				var err error
				if n, err = src.Read(-1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// The kernel refuses segmentation on a socket without checksums: every run
// must arrive all the same, and after refusedMax refusals no more are tried.
func TestFallsBackWhenSegmentationIsRefused(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	b := src.io.(*batch)
	if !b.gso {
		t.Skip("this kernel does not segment")
	}
	setOption(t, src, unix.SOL_SOCKET, unix.SO_NO_CHECK)
	for range refusedMax + 1 {
		want := make([][2]int, 6)
		for i := range want {
			put(t, src, byte(i), 1280, dst.Addr())
			want[i] = [2]int{i, 1280}
		}
		if err := src.Flush(); err != nil {
			t.Fatal(err)
		}
		wantDatagrams(t, dst, src.Addr(), want...)
	}
	if src.Mode() != Batch || b.gso {
		t.Errorf("mode %v after %d refusals, want batch", src.Mode(), refusedMax)
	}
	if s := src.Stats(); s.SendDropped != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestSegmentationEndsWithTheCardThatCannot(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	b := scripted(src, func(part []mmsghdr) (int, unix.Errno) {
		for i := range part {
			if segmented(&part[i]) {
				if i == 0 {
					return 0, unix.EIO
				}
				return i, 0
			}
		}
		return len(part), 0
	})
	b.gso = true
	put(t, src, 0, 1280, loopback4) // a run of one is refused by its port, not by the card
	for i := range 4 {
		put(t, src, byte(i), 1280, dst.Addr())
	}
	src.Flush()
	wantDatagrams(t, dst, src.Addr(), [2]int{0, 1280}, [2]int{1, 1280}, [2]int{2, 1280}, [2]int{3, 1280})
	if src.Mode() != Batch {
		t.Errorf("mode %v, want batch", src.Mode())
	}
}

// One path with a small MTU refuses segments; the others keep them.
func TestOneRefusalDoesNotEndSegmentation(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	refuse := true
	b := scripted(src, func(part []mmsghdr) (int, unix.Errno) {
		if refuse && segmented(&part[0]) {
			refuse = false
			return 0, unix.EINVAL
		}
		return len(part), 0
	})
	if !b.gso {
		t.Skip("this kernel does not segment")
	}
	for round := range 2 {
		put(t, src, 1, 1280, dst.Addr())
		put(t, src, 2, 1280, dst.Addr())
		src.Flush()
		wantDatagrams(t, dst, src.Addr(), [2]int{1, 1280}, [2]int{2, 1280})
		if want := 1 - round; b.refused != want || !b.gso {
			t.Errorf("round %d: %d refusals, want %d", round, b.refused, want)
		}
	}
}

func TestFullSocketIsWaitedForThenDropped(t *testing.T) {
	src, dst := listen(t, loopback4, Offload), listen(t, loopback4, Offload)
	calls := 0
	b := scripted(src, func(part []mmsghdr) (int, unix.Errno) {
		if calls++; calls == 1 {
			return 0, unix.EAGAIN
		}
		return len(part), 0
	})
	put(t, src, 1, 1280, dst.Addr())
	src.Flush()
	wantDatagrams(t, dst, src.Addr(), [2]int{1, 1280})

	full := func(uintptr) { b.writeN, b.writeErr = 0, unix.EAGAIN }
	b.tryWrite, b.mayWrite = full, func(fd uintptr) bool { full(fd); return false }
	put(t, src, 1, 1280, dst.Addr())
	put(t, src, 1, 1280, dst.Addr())
	if err := src.Flush(); err != nil {
		t.Fatal(err)
	}
	if s := src.Stats(); s.SendDropped != 2 {
		t.Errorf("stats %+v, want 2 dropped", s)
	}
}

func TestJoinedRunsAreSplit(t *testing.T) {
	b := &batch{slot: slotGRO}
	sizes := func(n, size int) (out []int) {
		b.got = b.got[:0]
		b.split(1, n, size)
		for i, a := range b.got {
			if i == 0 && a.off != slotGRO || i > 0 && a.off != b.got[i-1].end {
				t.Errorf("datagram %d begins at %d", i, a.off)
			}
			out = append(out, int(a.end-a.off))
		}
		return out
	}
	for _, c := range []struct {
		n, size int
		want    []int
	}{
		{1280, 0, []int{1280}},
		{1280, 1280, []int{1280}},
		{1280, 4000, []int{1280}},
		{2560, 1280, []int{1280, 1280}},
		{2561, 1280, []int{1280, 1280, 1}},
		{0, 0, []int{0}},
		{700, -5, []int{700}},
	} {
		if got := sizes(c.n, c.size); !slices.Equal(got, c.want) {
			t.Errorf("%d bytes in %d: %v, want %v", c.n, c.size, got, c.want)
		}
	}
}

func TestControlMessages(t *testing.T) {
	b := make([]byte, ctlSize)
	putSegment(b, 1280)
	msgs, err := unix.ParseSocketControlMessage(b)
	if err != nil || len(msgs) != 1 || msgs[0].Header.Level != unix.IPPROTO_UDP || msgs[0].Header.Type != unix.UDP_SEGMENT || len(msgs[0].Data) != 2 {
		t.Fatalf("%+v, %v", msgs, err)
	}
	if got := getSegment(b); got != 0 {
		t.Errorf("a message of another type gives %d", got)
	}
	b[ctlLenBytes+4] = unix.UDP_GRO
	if got := getSegment(b); got != 1280 {
		t.Errorf("segment of %d, want 1280", got)
	}
	for n := range ctlHeader + 4 {
		if got := getSegment(b[:n]); got != 0 {
			t.Errorf("%d bytes give %d", n, got)
		}
	}
}

func TestSocketAddressesSurviveTheKernelForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var z zones
		port := rapid.Uint16().Draw(t, "port")
		var ip netip.Addr
		family := unix.AF_INET6
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			family = unix.AF_INET
			fallthrough
		case 1:
			ip = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		case 2:
			ip = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))).Unmap()
		case 3:
			ip = netip.MustParseAddr("fe80::1").WithZone("7")
		}
		want := netip.AddrPortFrom(ip, port)
		var b [nameSize]byte
		if z.putName(b[:], want, family) == 0 {
			t.Fatalf("%v has no form", want)
		}
		if got := z.getName(b[:]); got != want {
			t.Fatalf("%v became %v", want, got)
		}
	})
}

func TestZonesByName(t *testing.T) {
	var z zones
	if got := z.scopeOf(netip.MustParseAddr("fe80::1").WithZone("lo")); got != 1 {
		t.Errorf("lo has scope %d, want 1", got)
	}
	if got := z.scopeOf(netip.MustParseAddr("fe80::1").WithZone("no such")); got != 0 {
		t.Errorf("an unknown zone has scope %d", got)
	}
}

func TestLastingReadErrorsAreSlowedNotFatal(t *testing.T) {
	c := listen(t, loopback4, Batch)
	b := c.io.(*batch)
	b.tryRead = func(uintptr) { b.readN, b.readErr = 0, unix.ENOMEM }
	for range failMax + 2 {
		if n, err := c.Read(-1); n != 0 || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
	}
	if got := c.Stats().ReadErrors; got != failMax+2 {
		t.Errorf("%d errors counted", got)
	}
	b.tryRead = func(uintptr) { b.readN, b.readErr = 0, unix.EBADF }
	if _, err := c.Read(-1); err == nil {
		t.Error("a bad descriptor is no error")
	}
}

package drive_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nyxnet/nyx/internal/carrier/udp"
	"github.com/nyxnet/nyx/internal/machine"
)

func rusage(who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHostForward measures what a host costs to take a datagram in and
// pass it on: host-cpu-ns/pkt is the processor time of the whole process less
// that of the thread that plays both neighbours.
func BenchmarkHostForward(b *testing.B) {
	for mode := udp.Offload; mode <= udp.Plain; mode++ {
		b.Run(mode.String(), func(b *testing.B) {
			h := startUDP(b, mode, newEcho())
			c := openUDP(b, mode)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			b.SetBytes(1280)
			b.ResetTimer()
			all, own := rusage(unix.RUSAGE_SELF), rusage(unix.RUSAGE_THREAD)
			sent, back := 0, 0
			for back < b.N {
				// Two batches under way, so that the host always has work.
				for sent < b.N && sent-back <= 180 {
					for range 180 {
						c.Next()
						c.Commit(1280, h.Addr())
					}
					if err := c.Flush(); err != nil {
						b.Fatal(err)
					}
					sent += 180
				}
				n, err := c.Read(-1)
				if err != nil {
					b.Fatalf("%d of %d came back: %v", back, sent, err)
				}
				back += n
			}
			spent := rusage(unix.RUSAGE_SELF) - all - (rusage(unix.RUSAGE_THREAD) - own)
			b.ReportMetric(float64(spent)/float64(back), "host-cpu-ns/pkt")
			b.ReportMetric(float64(h.Snapshot().DatagramsIn)/float64(h.Snapshot().Rounds), "pkts/round")
		})
	}
}

// BenchmarkPing sends one datagram at a time through an idle echo host. The
// peer spins, so that the round trip holds one wake-up only, the host's: the
// percentiles bound what a hop adds.
func BenchmarkPing(b *testing.B) {
	for mode := udp.Offload; mode <= udp.Plain; mode++ {
		b.Run(mode.String(), func(b *testing.B) {
			h := startUDP(b, mode, newEcho())
			c := openUDP(b, mode)
			trips := make([]time.Duration, b.N)
			b.ResetTimer()
			for i := range trips {
				began := time.Now()
				c.Next()
				c.Commit(1280, h.Addr())
				if err := c.Flush(); err != nil {
					b.Fatal(err)
				}
				for n := 0; n == 0; {
					var err error
					if n, err = c.Read(0); err != nil {
						b.Fatal(err)
					}
				}
				trips[i] = time.Since(began)
			}
			slices.Sort(trips)
			b.ReportMetric(float64(trips[len(trips)/2])/1e3, "p50-µs")
			b.ReportMetric(float64(trips[len(trips)*99/100])/1e3, "p99-µs")
		})
	}
}

// BenchmarkHops sends one datagram at a time through a chain of idle hosts
// back to a peer that waits: µs/hop is what each hop adds to the round trip.
func BenchmarkHops(b *testing.B) {
	for _, hops := range []int{1, 5} {
		b.Run(fmt.Sprint(hops), func(b *testing.B) {
			c := openUDP(b, udp.Offload)
			next := c.Addr()
			for range hops {
				m := newEcho()
				m.to = next
				next = startUDP(b, udp.Offload, m).Addr()
			}
			b.ResetTimer()
			for range b.N {
				exchange(b, c, next, 1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e3/float64(b.N*hops), "µs/hop")
		})
	}
}

// BenchmarkDo measures a call of Do on a host that is idle, and on one whose
// traffic never ends.
func BenchmarkDo(b *testing.B) {
	for _, balls := range []int{0, 400} {
		b.Run(fmt.Sprintf("balls-%d", balls), func(b *testing.B) {
			a := newEcho()
			h, other := startUDP(b, udp.Offload, a), startUDP(b, udp.Offload, newEcho())
			h.Do(func(machine.Time) {
				for range balls {
					a.push(other.Addr(), make([]byte, 1280))
				}
			})
			took := make([]time.Duration, b.N)
			b.ResetTimer()
			for i := range took {
				began := time.Now()
				h.Do(func(machine.Time) {})
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100])/1e3, "p99-µs")
		})
	}
}

// BenchmarkIdle reports the processor time of ten hosts, each with a timer of
// ten per second, for a second of nothing else.
func BenchmarkIdle(b *testing.B) {
	for range 10 {
		m := newEcho()
		m.timer, m.repeat = 1, 100*time.Millisecond
		startUDP(b, udp.Offload, m)
	}
	c := openUDP(b, udp.Offload)
	b.ResetTimer()
	began := rusage(unix.RUSAGE_SELF)
	for range b.N {
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			c.Read(time.Until(end))
		}
	}
	b.ReportMetric(float64((rusage(unix.RUSAGE_SELF)-began).Microseconds())/float64(b.N), "cpu-µs/s")
}

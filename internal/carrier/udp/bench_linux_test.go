package udp

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoopback moves full batches from one socket to others on the
// loopback interface. cpu-ns/pkt is the processor time of both ends together,
// send-ns/pkt and recv-ns/pkt the elapsed time in either.
func BenchmarkLoopback(b *testing.B) {
	for mode := Offload; mode <= Plain; mode++ {
		b.Run(mode.String(), func(b *testing.B) { benchmarkLoopback(b, mode, 1) })
	}
	b.Run("offload-4-destinations", func(b *testing.B) { benchmarkLoopback(b, Offload, 4) })
}

func benchmarkLoopback(b *testing.B, mode Mode, destinations int) {
	src := listen(b, loopback4, mode)
	dst := make([]*Conn, destinations)
	for i := range dst {
		dst[i] = listen(b, loopback4, mode)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var sending, receiving time.Duration
	b.ReportAllocs()
	b.SetBytes(1280)
	b.ResetTimer()
	began := cpu()
	for done := 0; done < b.N; done += sendMax {
		t0 := time.Now()
		for i := range sendMax {
			src.Next()
			src.Commit(1280, dst[i*destinations/sendMax].Addr())
		}
		if err := src.Flush(); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		for _, d := range dst {
			for got := 0; got < sendMax/destinations; {
				n, err := d.Read(-1)
				if err != nil {
					b.Fatalf("%d of %d arrived: %v", got, sendMax, err)
				}
				for i := range n {
					d.At(i)
				}
				got += n
			}
		}
		sending += t1.Sub(t0)
		receiving += time.Since(t1)
	}
	n := float64((b.N + sendMax - 1) / sendMax * sendMax)
	b.ReportMetric(float64(cpu()-began)/n, "cpu-ns/pkt")
	b.ReportMetric(float64(sending)/n, "send-ns/pkt")
	b.ReportMetric(float64(receiving)/n, "recv-ns/pkt")
}

// BenchmarkTimer reports how late a Read with a time limit returns.
func BenchmarkTimer(b *testing.B) {
	c := listen(b, loopback4, Offload)
	var late time.Duration
	for range b.N {
		end := time.Now().Add(300 * time.Microsecond)
		for left := time.Until(end); left > 0; left = time.Until(end) {
			c.Read(left)
		}
		late += time.Since(end)
	}
	b.ReportMetric(float64(late.Nanoseconds())/float64(b.N), "late-ns/op")
}

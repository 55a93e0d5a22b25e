package drive_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nyxnet/nyx/internal/carrier/mem"
	"github.com/nyxnet/nyx/internal/drive"
	"github.com/nyxnet/nyx/internal/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:1")
	addrB = netip.MustParseAddrPort("10.0.0.2:1")
	addrC = netip.MustParseAddrPort("10.0.0.3:1")
)

// start runs m at addr of a network in memory, inside a synctest bubble.
func start(t *testing.T, nw *mem.Network, addr netip.AddrPort, m machine.Machine, change ...func(*drive.Config)) *drive.Host {
	t.Helper()
	c, err := nw.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg := drive.Config{Name: addr.String(), Machine: m, Carrier: c}
	for _, f := range change {
		f(&cfg)
	}
	h, err := drive.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// inject sends count datagrams from a connection outside of any host.
func inject(t *testing.T, c *mem.Conn, to netip.AddrPort, count int) {
	t.Helper()
	for range count {
		b := c.Next()
		if b == nil {
			c.Flush()
			b = c.Next()
		}
		c.Commit(copy(b, "hello"), to)
	}
	c.Flush()
}

func outside(t *testing.T, nw *mem.Network) *mem.Conn {
	t.Helper()
	c, err := nw.Listen(addrA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestEcho(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		h := start(t, nw, addrB, newEcho())
		c := outside(t, nw)
		inject(t, c, addrB, 5)
		synctest.Wait()
		n, err := c.Read(0)
		if n != 5 || err != nil {
			t.Fatalf("Read = %d, %v; want 5 echoes", n, err)
		}
		if b, from := c.At(4); string(b) != "hello" || from != addrB {
			t.Errorf("%q from %v", b, from)
		}
		if s := h.Snapshot(); s.DatagramsIn != 5 || s.DatagramsOut != 5 {
			t.Errorf("snapshot %+v", s)
		}
		if h.Addr() != addrB {
			t.Errorf("address %v", h.Addr())
		}
	})
}

func TestForwardThroughTwoHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		first, second := newEcho(), newEcho()
		first.to, second.to = addrC, addrA
		start(t, nw, addrB, first)
		start(t, nw, addrC, second)
		c := outside(t, nw)
		inject(t, c, addrB, 300) // more than a round and than a batch
		synctest.Wait()
		if n, _ := c.Read(0); n != 300 {
			t.Fatalf("%d of 300 came through", n)
		}
		if _, from := c.At(0); from != addrC {
			t.Errorf("from %v, want the second host", from)
		}
	})
}

func TestTimersRunAtTheirTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newEcho()
		m.timer, m.repeat = machine.Time(3*time.Millisecond), 250*time.Microsecond
		h := start(t, &mem.Network{}, addrB, m)
		time.Sleep(4 * time.Millisecond) // virtual time
		synctest.Wait()
		h.Do(func(machine.Time) {
			if len(m.fired) != 5 {
				t.Fatalf("timer ran at %v", m.fired)
			}
			for i, at := range m.fired {
				if want := machine.Time(3*time.Millisecond + time.Duration(i)*250*time.Microsecond); at != want {
					t.Errorf("run %d at %d, want %d", i, at, want)
				}
			}
		})
	})
}

// Do may bring the timer forward while the loop waits for a later one.
func TestDoSetsAnEarlierTimer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newEcho()
		m.timer = machine.Time(time.Hour)
		h := start(t, &mem.Network{}, addrB, m)
		synctest.Wait()
		h.Do(func(now machine.Time) { m.timer = now.Add(time.Millisecond) })
		time.Sleep(time.Second)
		synctest.Wait()
		h.Do(func(machine.Time) {
			if len(m.fired) != 1 || m.fired[0] != machine.Time(time.Millisecond) {
				t.Errorf("timer ran at %v, want 1 ms", m.fired)
			}
		})
	})
}

func TestWhatDoQueuesIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		m := newEcho()
		h := start(t, nw, addrB, m)
		c := outside(t, nw)
		synctest.Wait()
		if !h.Do(func(machine.Time) { m.push(addrA, []byte("mine")) }) {
			t.Fatal("Do refused")
		}
		synctest.Wait()
		if n, _ := c.Read(0); n != 1 {
			t.Fatalf("%d datagrams, want 1", n)
		}
	})
}

func TestHookRunsInEveryRoundAndItsOutputIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		m := newEcho()
		rounds := 0
		h := start(t, nw, addrB, m, func(cfg *drive.Config) {
			cfg.AfterRound = func(machine.Time) {
				rounds++
				if m.in == 1 {
					m.in = 0
					m.push(addrA, []byte("seen"))
				}
			}
		})
		c := outside(t, nw)
		inject(t, c, addrB, 1)
		synctest.Wait()
		if n, _ := c.Read(0); n != 2 {
			t.Errorf("%d datagrams, want the echo and the hook's", n)
		}
		before := rounds
		h.Wake()
		synctest.Wait()
		if rounds != before+1 {
			t.Errorf("%d rounds after Wake, want 1", rounds-before)
		}
	})
}

func TestRoundsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		m := newEcho()
		start(t, nw, addrB, m, func(cfg *drive.Config) {
			cfg.AfterRound = func(machine.Time) { m.sinceIn = 0 }
		})
		c := outside(t, nw)
		inject(t, c, addrB, 1000)
		synctest.Wait()
		if n, _ := c.Read(0); n != 1000 {
			t.Errorf("%d of 1000 came back", n)
		}
		if m.roundMax > 128 {
			t.Errorf("a round took %d datagrams", m.roundMax)
		}
	})
}

func TestIdleHostDoesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := start(t, &mem.Network{}, addrB, newEcho())
		synctest.Wait()
		before := h.Snapshot().Rounds
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := h.Snapshot().Rounds - before; n != 0 {
			t.Errorf("%d rounds in a day without anything to do", n)
		}
	})
}

// Callers of Do must get their turn while datagrams never end.
func TestDoIsNotStarvedByTraffic(t *testing.T) {
	nw := &mem.Network{}
	a, b := newEcho(), newEcho()
	hosts := [2]*drive.Host{}
	for i, m := range []*echo{a, b} {
		c, err := nw.Listen([]netip.AddrPort{addrB, addrC}[i])
		if err != nil {
			t.Fatal(err)
		}
		if hosts[i], err = drive.Start(drive.Config{Machine: m, Carrier: c}); err != nil {
			t.Fatal(err)
		}
		defer hosts[i].Close()
	}
	hosts[0].Do(func(machine.Time) {
		for range 200 { // these go to and fro for ever
			a.push(addrC, []byte("ball"))
		}
	})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for moved := 0; moved < 3000; { // the callers do not starve the traffic either
				if !hosts[0].Do(func(machine.Time) { moved = a.in }) {
					t.Error("Do refused")
					return
				}
			}
		})
	}
	callers.Wait()
	if s := hosts[0].Snapshot(); s.Calls < 5 || s.DatagramsIn < 3000 {
		t.Errorf("snapshot %+v", s)
	}
}

// noisy tells of every wake-up, and when the loop begins to wait.
type noisy struct {
	*mem.Conn
	woken, waits chan struct{}
}

func (n noisy) Read(wait time.Duration) (int, error) {
	if wait != 0 {
		n.waits <- struct{}{}
	}
	return n.Conn.Read(wait)
}

func (n noisy) Wake() {
	n.Conn.Wake()
	n.woken <- struct{}{}
}

func startNoisy(t *testing.T) (*drive.Host, noisy) {
	t.Helper()
	c, err := (&mem.Network{}).Listen(addrB)
	if err != nil {
		t.Fatal(err)
	}
	n := noisy{c, make(chan struct{}, 100), make(chan struct{}, 100)}
	h, err := drive.Start(drive.Config{Machine: newEcho(), Carrier: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h, n
}

// A caller that finds the lock taken leaves its function to the loop, and must
// wake it for that.
func TestDoWhileAnotherHoldsTheLock(t *testing.T) {
	h, c := startNoisy(t)
	second := make(chan bool)
	h.Do(func(machine.Time) {
		go func() { second <- h.Do(func(machine.Time) {}) }()
		<-c.woken
	})
	if !<-second {
		t.Error("Do refused")
	}
}

func TestDoWhileTheHostEnds(t *testing.T) {
	h, c := startNoisy(t)
	second := make(chan bool)
	<-c.waits // a round that has begun would still run what is left to the loop
	h.Do(func(machine.Time) {
		c.Close()
		go func() { second <- h.Do(func(machine.Time) { t.Error("ran") }) }()
		<-c.woken
	})
	if <-second {
		t.Error("Do ran on a host that has ended")
	}
	<-h.Done()
}

func TestJobsRunElsewhereAndComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const workers, jobs = 3, 200
		m := newEcho()
		var running, most, ran atomic.Int32
		for range jobs {
			m.work = append(m.work, jobFunc(func() {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Millisecond) // virtual
				running.Add(-1)
				ran.Add(1)
			}))
		}
		h := start(t, &mem.Network{}, addrB, m, func(cfg *drive.Config) { cfg.Workers = drive.NewWorkers(workers) })
		synctest.Wait()
		if s := h.Snapshot(); s.JobsRunning != 64 {
			t.Errorf("%d jobs with the workers, want the limit of 64", s.JobsRunning)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		h.Do(func(machine.Time) {
			if len(m.finished) != jobs || ran.Load() != jobs {
				t.Errorf("%d jobs ran, %d came back, want %d", ran.Load(), len(m.finished), jobs)
			}
		})
		if most.Load() != workers {
			t.Errorf("%d jobs at once, want %d", most.Load(), workers)
		}
		if s := h.Snapshot(); s.Jobs != jobs || s.JobsRunning != 0 {
			t.Errorf("snapshot %+v", s)
		}
	})
}

func TestHostsShareWorkers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw, workers := &mem.Network{}, drive.NewWorkers(1)
		var order []string
		for i, addr := range []netip.AddrPort{addrB, addrC} {
			m := newEcho()
			for range 3 {
				m.work = append(m.work, jobFunc(func() {
					order = append(order, string(rune('a'+i)))
					time.Sleep(time.Millisecond)
				}))
			}
			start(t, nw, addr, m, func(cfg *drive.Config) { cfg.Workers = workers })
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := strings.Join(order, ""); got != "aaabbb" {
			t.Errorf("order %s, want first come, first served", got)
		}
	})
}

func TestCloseSendsWhatIsReadyAndWaitsForJobs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		m := newEcho()
		jobEnded := false
		m.work = []machine.Job{jobFunc(func() { time.Sleep(time.Second); jobEnded = true })}
		h := start(t, nw, addrB, m)
		c := outside(t, nw)
		synctest.Wait()
		h.Do(func(machine.Time) {
			for range 100 { // several batches
				m.push(addrA, []byte("farewell"))
			}
		})
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n, _ := c.Read(0); n != 100 {
			t.Errorf("%d of 100 farewells sent", n)
		}
		if !jobEnded {
			t.Error("Close did not wait for the job")
		}
		select {
		case <-h.Done():
		default:
			t.Error("Done is open after Close")
		}
		if !errors.Is(h.Err(), drive.ErrClosed) {
			t.Errorf("Err = %v", h.Err())
		}
		if h.Do(func(machine.Time) { t.Error("ran") }) {
			t.Error("Do after Close")
		}
		h.Wake()
		if err := h.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestHostEndsWithItsCarrier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		c, _ := nw.Listen(addrB)
		h, err := drive.Start(drive.Config{Name: "relay 7", Machine: newEcho(), Carrier: c})
		if err != nil {
			t.Fatal(err)
		}
		if h.Err() != nil {
			t.Errorf("a running host has the error %v", h.Err())
		}
		c.Close()
		<-h.Done()
		if err := h.Err(); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "relay 7") {
			t.Errorf("Err = %v", err)
		}
		if err := h.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close = %v", err)
		}
	})
}

func TestStartRefusesWhatCannotRun(t *testing.T) {
	if _, err := drive.Start(drive.Config{Name: "x", Carrier: &mem.Conn{}}); err == nil || !strings.Contains(err.Error(), "machine") {
		t.Errorf("no machine: %v", err)
	}
	if _, err := drive.Start(drive.Config{Name: "x", Machine: newEcho()}); err == nil || !strings.Contains(err.Error(), "carrier") {
		t.Errorf("no carrier: %v", err)
	}
}

func TestClockIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		clock := drive.NewClock()
		began := time.Now()
		time.Sleep(time.Hour)
		h := start(t, &mem.Network{}, addrB, newEcho(), func(cfg *drive.Config) { cfg.Clock = clock })
		h.Do(func(now machine.Time) {
			if now != machine.Time(time.Hour) {
				t.Errorf("now is %d", now)
			}
			if !h.Clock().At(now).Equal(began.Add(time.Hour)) {
				t.Errorf("wall time %v", h.Clock().At(now))
			}
		})
	})
}

// late is a machine whose event comes up while it is asked for output.
type late struct {
	*echo
	events int
}

func (l *late) PollTransmit(now machine.Time, b []byte) (netip.AddrPort, int, bool) {
	if l.in > 0 {
		l.in, l.events = 0, l.events+1
	}
	return l.echo.PollTransmit(now, b)
}

func (l *late) EventsWait() bool { return l.events > 0 }

func TestHookHearsOfLateEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nw := &mem.Network{}
		m := &late{echo: newEcho()}
		heard := 0
		start(t, nw, addrB, m, func(cfg *drive.Config) {
			cfg.AfterRound = func(machine.Time) { heard, m.events = heard+m.events, 0 }
		})
		inject(t, outside(t, nw), addrB, 1)
		synctest.Wait()
		if heard != 1 {
			t.Errorf("%d events heard, want 1", heard)
		}
	})
}

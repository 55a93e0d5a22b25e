package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/client"
	"github.com/nyxnet/nyx/internal/daemon"
	"github.com/nyxnet/nyx/internal/machine"
	"github.com/nyxnet/nyx/internal/wire"
)

const (
	coldRuns    = 5
	sessionRuns = 60 // at each level
	streamRuns  = 400
	requestRuns = 400
)

// runSession measures times to a session and to first bytes, round trips at
// level standard, and what an idle network costs.
func runSession(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	ln, stop, err := webServer()
	if err != nil {
		return nil, err
	}
	defer stop()
	target := ln.Addr().String()
	o.Progress("cold clients")
	cold, err := coldStarts(ctx, target)
	if err != nil {
		return nil, err
	}
	var out []Figure
	out = append(out, Figure{Name: "cold client to first response, worst of 5", Value: milliseconds(percentile(cold, 100)), Unit: "ms", Bound: 1000,
		Note: "a client that knows only the network file, on a running network"})
	for _, level := range []wire.Level{wire.Fast, wire.Standard} {
		o.Progress("level " + level.String())
		figures, err := levelFigures(ctx, o, level, target)
		if err != nil {
			return nil, fmt.Errorf("level %v: %w", level, err)
		}
		out = append(out, figures...)
	}
	return out, nil
}

// coldStarts measures, on a running network, from the start of a client that
// knows nothing but the network file to its first answer.
func coldStarts(ctx context.Context, target string) (times []time.Duration, err error) {
	l, err := network(ctx, wire.Fast)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	host, port, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	for range coldRuns {
		begun := time.Now()
		c, err := l.AddClient(client.Config{Level: wire.Fast})
		if err != nil {
			return nil, err
		}
		err = c.WaitReady(ctx)
		if err == nil {
			err = one(func() (net.Conn, error) { return c.DialStream(ctx, "", host, port) })
		}
		times = append(times, time.Since(begun))
		c.Close()
		if err != nil {
			return nil, err
		}
	}
	return times, nil
}

func splitTarget(target string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(target)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err
}

func one(dial func() (net.Conn, error)) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return request(c, bufio.NewReader(c))
}

func levelFigures(ctx context.Context, o Options, level wire.Level, target string) ([]Figure, error) {
	l, err := network(ctx, level)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	host, port, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	// A session of its own for each isolation key, on routes built ahead. At
	// STANDARD these are built on a schedule of 20 s, and a session costs 4,000
	// datagram-hops a second from then on: there, a client each.
	var sessions []time.Duration
	for i := range sessionRuns {
		var took time.Duration
		if level == wire.Fast {
			took, err = nextSession(ctx, l, "session "+strconv.Itoa(i), host, port)
		} else {
			took, err = firstSession(ctx, l, level, host, port)
		}
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, took)
	}
	var first []time.Duration
	for range streamRuns {
		took, err := dialTime(ctx, l.Client, "warm", host, port)
		if err != nil {
			return nil, err
		}
		first = append(first, took)
	}
	c, err := l.Client.DialStream(ctx, "warm", host, port)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var trips []time.Duration
	for range requestRuns {
		begun := time.Now()
		if err := request(c, r); err != nil {
			return nil, err
		}
		trips = append(trips, time.Since(begun))
	}
	bounds := map[wire.Level][3]float64{wire.Fast: {150, 10, 0}, wire.Standard: {150, 0, 250}}[level]
	out := []Figure{
		{Name: fmt.Sprintf("%v: session and first stream, P95", level), Value: milliseconds(percentile(sessions, 95)), Unit: "ms", Bound: bounds[0]},
		{Name: fmt.Sprintf("%v: new stream on a warm session, P95", level), Value: milliseconds(percentile(first[1:], 95)), Unit: "ms", Bound: bounds[1]},
		{Name: fmt.Sprintf("%v: small request round trip, P95", level), Value: milliseconds(percentile(trips, 95)), Unit: "ms", Bound: bounds[2]},
	}
	if level == wire.Fast {
		o.Progress("idle")
		before := cpuTime()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(o.duration() * 3):
		}
		out = append(out,
			Figure{Name: "idle network, CPU", Value: 100 * (cpuTime() - before).Seconds() / (3 * o.duration().Seconds()), Unit: "% of a core", Bound: 3,
				Note: strconv.Itoa(sessionRuns) + " idle sessions"},
			Figure{Name: "whole process, resident", Value: residentMB(), Unit: "MB", Bound: 200})
	}
	return out, nil
}

// nextSession times the network's own client, which has other sessions.
func nextSession(ctx context.Context, l *daemon.Local, isolation, host string, port uint16) (time.Duration, error) {
	if err := waitAhead(ctx, l); err != nil {
		return 0, err
	}
	return dialTime(ctx, l.Client, isolation, host, port)
}

// firstSession times a client that has been made ready for it, and is gone
// afterwards.
func firstSession(ctx context.Context, l *daemon.Local, level wire.Level, host string, port uint16) (time.Duration, error) {
	c, err := l.AddClient(client.Config{Level: level})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.WaitReady(ctx); err != nil {
		return 0, err
	}
	return dialTime(ctx, c, "session", host, port)
}

func dialTime(ctx context.Context, c *daemon.Client, isolation, host string, port uint16) (time.Duration, error) {
	begun := time.Now()
	conn, err := c.DialStream(ctx, isolation, host, port)
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, conn.Close()
}

// waitAhead waits until a session is made ahead, as it is for who does not open
// many in a row.
func waitAhead(ctx context.Context, l *daemon.Local) error {
	for {
		ready := false
		l.Client.Do(func(_ machine.Time, c *client.Client) { ready = c.Ready() })
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// residentMB is the resident memory of this process, or 0 where the system
// does not tell.
func residentMB() float64 {
	runtime.GC()
	now, _, _ := residentBytes(os.Getpid())
	return float64(now) / 1e6
}

// residentBytes is the resident memory of a process, its own part of that
// (without the program's text, which is mapped as it is run), and the most it has
// been, or 0 where the system does not tell.
func residentBytes(pid int) (now, own, most uint64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, 0
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] == "kB" {
			n, _ := strconv.ParseUint(fields[1], 10, 64)
			switch fields[0] {
			case "VmRSS:":
				now = n << 10
			case "RssAnon:":
				own = n << 10
			case "VmHWM:":
				most = n << 10
			}
		}
	}
	return now, own, most
}

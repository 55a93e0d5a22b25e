package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/nyxnet/nyx/internal/daemon"
)

// standing is a proxy that has run for an hour.
func standing() daemon.Standing {
	begun := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	return daemon.Standing{
		Program: "proxy", PID: 7, Network: "test", Level: "standard", Socks: "127.0.0.1:9150", Threshold: 2, Authorities: 3, WitnessThreshold: 2, Witnesses: 3,
		Since: begun, At: begun.Add(time.Hour), CPU: 10, Memory: 64 << 20,
		Parts: []daemon.StandingPart{{Name: "client", Client: true, Works: true, State: "working", Since: begun.Add(time.Second), Counts: map[string]uint64{"link_in": 1000, "link_out": 3000}}},
	}
}

// text is what nyx status prints of processes.
func text(all ...daemon.Standing) string {
	var b bytes.Buffer
	var states []state
	for _, s := range all {
		states = append(states, state{s, claims(&s)})
	}
	printStates(&b, states)
	return b.String()
}

// The screen says what is protected and since when, and of what is not, what to do. Each of
// the differences shows: level, witnesses, one machine, no traffic.
func TestStatusSaysWhatIsProtected(t *testing.T) {
	edit := func(f func(*daemon.Standing)) daemon.Standing {
		s := standing()
		f(&s)
		return s
	}
	for _, c := range []struct {
		what      string
		s         daemon.Standing
		has, lack []string
	}{
		{"standard", standing(), []string{"protected since 2026-11-23", "watches wires", "level standard delays cells at 3 mixes"}, []string{"watches both ends", "owns this machine", "no witnesses"}},
		{"fast", edit(func(s *daemon.Standing) { s.Level = "fast" }), []string{"watches both ends", "--level standard"}, []string{"watches wires"}},
		{"no witnesses", edit(func(s *daemon.Standing) { s.WitnessThreshold = 0 }), []string{"no witnesses"}, []string{"have seen each document"}},
		{"on one machine", edit(func(s *daemon.Standing) { s.Local = true }), []string{"who owns this machine"}, nil},
		{"no traffic", edit(func(s *daemon.Standing) { s.Parts[0].Works, s.Parts[0].State = false, "no route stands yet" }), []string{"0 of 1 parts work", "traffic does not flow (no route stands yet)"}, []string{"who talks to whom"}},
		{"a node", edit(func(s *daemon.Standing) {
			s.Program, s.Name, s.Level, s.Parts[0].Client, s.Parts[0].Alone = "node", "mix-1", "", false, true
		}), []string{"nyx node mix-1", "1 of 1 parts work", "no answer of the control plane"}, []string{"protected"}},
	} {
		got := text(c.s)
		for _, want := range c.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in:\n%s", c.what, want, got)
			}
		}
		for _, not := range c.lack {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q in:\n%s", c.what, not, got)
			}
		}
	}
	if lines := strings.Count(text(standing()), "\n"); lines > 24 {
		t.Errorf("%d lines are more than a screen:\n%s", lines, text(standing()))
	}
	for _, c := range claims(&daemon.Standing{Parts: standing().Parts, Level: "fast"}) {
		if c.Holds == c.Since.IsZero() || c.Holds == (c.Do != "") {
			t.Errorf("%+v says neither since when nor what to do, or both", c)
		}
	}
}

// A part that does not work makes the command fail, in one line.
func TestStatusFails(t *testing.T) {
	s := standing()
	if err := broken([]daemon.Standing{s, s}, nil); err != nil {
		t.Error(err)
	}
	s.Parts[0].Works, s.Parts[0].State = false, "no route stands yet"
	if err := broken([]daemon.Standing{standing(), s}, nil); err == nil || !strings.HasPrefix(err.Error(), "1 of 2 parts do not work fully (client: no route stands yet)") {
		t.Error(err)
	}
	for _, cmd := range []string{"status", "top"} {
		c := Status()
		if cmd == "top" {
			c = Top()
			c.SetArgs([]string{"--once", "--every", "200ms", "--run", t.TempDir()})
		} else {
			c.SetArgs([]string{"--run", t.TempDir()})
		}
		c.SilenceUsage, c.SilenceErrors = true, true
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "no process of this user runs") {
			t.Errorf("%s where nothing runs: %v", cmd, err)
		}
	}
}

// A directory that is not there, or is none, is told, and not taken for one in which nothing
// runs.
func TestRunIsADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, file + ".not"} {
		for _, args := range [][]string{{"status"}, {"top", "--once"}, {"doctor"}, {"doctor", "--config", "node.toml"}} {
			c := map[string]func() *cobra.Command{"status": Status, "top": Top, "doctor": func() *cobra.Command { return Doctor(nil) }}[args[0]]()
			if err := ran(t, c, append(args[1:], "--run", dir)...); err == nil || !strings.Contains(err.Error(), "--run "+dir+" cannot be looked into") {
				t.Errorf("%q --run %s: %v", args, dir, err)
			}
		}
	}
}

// ran runs a command by itself.
func ran(t *testing.T, c *cobra.Command, args ...string) error {
	t.Helper()
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	return c.ExecuteContext(t.Context())
}

// An address that would not be looked at, or is none, is refused; and what was not looked
// at is told.
func TestDoctorSaysWhatItLeavesOut(t *testing.T) {
	for socks, says := range map[string]string{"banana": "is not an address", "127.0.0.1": "is not an address", "127.0.0.1:99999": "is not an address", "127.0.0.1:9150": "--network"} {
		if err := ran(t, Doctor(nil), "--socks", socks, "--run", t.TempDir()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("--socks %s: %v", socks, err)
		}
	}
	var out bytes.Buffer
	c := Doctor(nil)
	c.SetOut(&out)
	if err := ran(t, c, "--run", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0 running processes\n", "not looked at:\n", "NAT on the way out, without --network\n", "the clock, without --network or --config\n", "found nothing in what was looked at\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// What happened between two looks is told by the second; a process that was not there
// before, or has started again under its number, is left out.
func TestTopCompares(t *testing.T) {
	before, now := standing(), standing()
	now.At, now.CPU = before.At.Add(2*time.Second), before.CPU+1
	now.Parts = []daemon.StandingPart{
		{Name: "client", State: "working", Counts: map[string]uint64{"link_in": 1100, "link_out": 3500, "cells_out": 40, "cell_delivered": 20, "drop_link_auth": 6, "drop_size": 4}},
		{Name: "new", State: "working", Counts: map[string]uint64{"link_in": 10}},
	}
	got := compare([]daemon.Standing{before}, []daemon.Standing{now})
	want := []partActivity{
		{Name: "client", State: "working", In: 50, Out: 250, Cells: 30, Dropped: 5},
		{Name: "new", State: "working", In: 5},
	}
	if len(got) != 1 || got[0].Processor != 0.5 || !slices.Equal(got[0].Parts, want) {
		t.Errorf("%+v", got)
	}
	var screen bytes.Buffer
	printTop(&screen, got, nil)
	for _, want := range []string{"nyx proxy  process 7  network test  up 1h0m2s  0.50 processors  64 MiB", "set-ups/s", "working"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("no %q in:\n%s", want, screen.String())
		}
	}
	again := now
	again.Since = again.Since.Add(time.Hour)
	if got := compare([]daemon.Standing{before}, []daemon.Standing{again}); len(got) != 0 {
		t.Errorf("another process: %+v", got)
	}
	now.Parts[0].Counts = map[string]uint64{"link_in": 1}
	if got := compare([]daemon.Standing{before}, []daemon.Standing{now}); got[0].Parts[0].In != 0 {
		t.Errorf("counters that went back: %+v", got)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

// Progress shows nothing of short work, nor to nobody; of long work, the newest line, also
// where nothing new is said, and nothing of it is left.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := newProgress(&b, true)
		p.Show("the clock")
		time.Sleep(progressAfter - time.Millisecond)
		if b.Len() > 0 {
			t.Errorf("after less than %v: %q", progressAfter, b.String())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.String(); got != "\rthe clock" {
			t.Errorf("of long work: %q", got)
		}
		b.Reset()
		p.Bar("verified", 1, 4)
		p.Bar("verified", 2, 4) // too soon
		time.Sleep(progressEvery)
		p.Bar("verified", 3, 4)
		p.Bar("verified", 4, 4) // the end is never too soon
		if got := b.String(); strings.Count(got, "\r") != 3 || !strings.Contains(got, "\rverified [#######.......................]  25%") || !strings.Contains(got, "] 100%") {
			t.Errorf("bars: %q", got)
		}
		b.Reset()
		p.Done()
		if got := b.String(); !strings.HasSuffix(got, "\r") || strings.TrimSpace(got) != "" {
			t.Errorf("left: %q", got)
		}
		b.Reset()
		quiet := newProgress(&b, false)
		time.Sleep(time.Hour)
		quiet.Bar("verified", 1, 2)
		quiet.Done()
		if b.Len() > 0 {
			t.Errorf("to nobody: %q", b.String())
		}
	})
}

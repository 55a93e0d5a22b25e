package daemon

import (
	"os"
	"path/filepath"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/query"
	"github.com/nyxnet/nyx/internal/setup"
)

// Standing is what a running process says of itself to the user who runs it: what is
// part of it, since when each part is as it is, and what it has counted. It names no
// destination, client or route, and tells content from cover nowhere.
type Standing struct {
	Program string `json:"program"`        // up, node or proxy
	Name    string `json:"name,omitempty"` // of a node, in its configuration
	PID     int    `json:"pid"`
	Network string `json:"network"`
	// Local says that the whole network is this process.
	Local bool `json:"local,omitempty"`
	// Level and Socks are of the client; "" where there is none.
	Level string `json:"level,omitempty"`
	Socks string `json:"socks,omitempty"`
	Log   string `json:"log,omitempty"` // the file that it writes its log to
	// Whom the process believes: so many of so many.
	Threshold        int `json:"threshold"`
	Authorities      int `json:"authorities"`
	WitnessThreshold int `json:"witness_threshold,omitempty"`
	Witnesses        int `json:"witnesses,omitempty"`

	Since  time.Time      `json:"since"` // start of the process
	At     time.Time      `json:"at"`
	Lately time.Time      `json:"lately"`      // since when its parts tell what they counted lately
	CPU    float64        `json:"cpu_seconds"` // of its own code, since the start
	Memory uint64         `json:"memory_bytes"`
	Parts  []StandingPart `json:"parts"`
}

// StandingPart is one machine or server of a process.
type StandingPart struct {
	Name   string `json:"name"`
	Client bool   `json:"client,omitempty"`
	Works  bool   `json:"works"`
	// State is why it does not work fully, or "working", and Since the time since
	// which it is so, found to within standingLook.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Overloaded and Alone are of a node: it holds admissions back; the control
	// plane does not answer it.
	Overloaded bool `json:"overloaded,omitempty"`
	Alone      bool `json:"alone,omitempty"`
	// FellBack is of a client whose datagrams do not go by UDP though they might.
	FellBack bool `json:"fell_back,omitempty"`
	// Forged counts answers of directory servers that were found not to be genuine.
	Forged       uint64            `json:"forged,omitempty"`
	ForgedLately uint64            `json:"forged_lately,omitempty"`
	Counts       map[string]uint64 `json:"counts"` // that are not 0
	Lately       map[string]uint64 `json:"lately"` // of them, since Standing.Lately
}

// working is the State of a part that does, and CellsOut the name of its count of cells
// that it emitted, content and cover.
const (
	working  = "working"
	CellsOut = "cells_out"
)

// standingOf is what does not change of a process.
func standingOf(program string, t *directory.Trust) Standing {
	return Standing{
		Program: program, PID: os.Getpid(), Network: t.Network, Since: time.Now(),
		Threshold: t.Threshold, Authorities: len(t.Authorities), WitnessThreshold: t.WitnessThreshold, Witnesses: len(t.Witnesses),
	}
}

// memoryHeld is what this process got from the system, memoryReturned what of it it gave
// back.
const memoryHeld, memoryReturned = "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes"

// beholder knows since when the parts of a process are as they are.
type beholder struct {
	about Standing
	parts func() []part

	mu    sync.Mutex
	since map[string]stretch
	past  past
}

// stretch is a state and when it began.
type stretch struct {
	state string
	begun time.Time
}

func newBeholder(about Standing, parts func() []part) *beholder {
	return &beholder{about: about, parts: parts, since: map[string]stretch{}, past: past{{at: about.Since}}}
}

// look is the standing at a time.
func (w *beholder) look(now time.Time) Standing {
	s := w.about
	s.At, s.Parts = now, nil
	if used, ok := userTime(); ok {
		s.CPU = used.Seconds()
	}
	held := []metrics.Sample{{Name: memoryHeld}, {Name: memoryReturned}}
	metrics.Read(held)
	s.Memory = held[0].Value.Uint64() - held[1].Value.Uint64()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.parts() {
		was := w.since[p.Name]
		if was.state != p.State {
			was = stretch{p.State, now}
			w.since[p.Name] = was
		}
		s.Parts = append(s.Parts, p.standing(was.begun))
	}
	w.past.take(now, s.Parts)
	s.Lately = w.past.lately(s.Parts)
	return s
}

func (p *part) standing(since time.Time) StandingPart {
	out := StandingPart{Name: p.Name, Client: p.own, Works: p.State == working, State: p.State, Since: since, FellBack: p.fellBack, Counts: p.Counts}
	if p.guard != nil {
		out.Overloaded, out.Alone = p.guard.overloaded, p.guard.alone
	}
	if p.asker != nil {
		out.Forged = p.asker.Stats().Faults[query.Forged]
	}
	return out
}

// StandingDir is where the processes of this user show their standing.
func StandingDir() (string, error) {
	dir, err := setup.DataDir("")
	return filepath.Join(dir, "run"), err
}

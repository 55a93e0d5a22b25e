package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Evidence is what remains of a run.
type Evidence struct {
	Format   int       `json:"format"` // EvidenceFormat
	Scenario string    `json:"scenario"`
	Title    string    `json:"title"`
	Digest   string    `json:"catalogue_sha256"` // of the scenario's file
	Mode     Mode      `json:"mode"`
	Seed     uint64    `json:"seed"`
	Scale    float64   `json:"scale"`
	FullLoad string    `json:"full_load"` // the load at scale 1
	SLI      string    `json:"sli"`
	Metrics  []Metric  `json:"metrics"`
	Started  time.Time `json:"started"`
	Versions Versions  `json:"versions"`

	DurationSeconds float64 `json:"duration_seconds"` // wall clock, everything

	Run Execution `json:"run"`
	// ControlOff is the protection that the control ran without.
	ControlOff string     `json:"control_off"`
	Control    *Execution `json:"control,omitempty"`
	// Repeated reports whether a second run with the seed was the same.
	Repeated *bool `json:"repeated,omitempty"`

	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	// Replay is the command that repeats the run.
	Replay string `json:"replay"`
}

// EvidenceFormat is the version of the file format.
const EvidenceFormat = 1

// Execution is one time that a scenario was carried out.
type Execution struct {
	Protected      bool      `json:"protected"`
	Results        []Result  `json:"results"`
	Series         []Summary `json:"series"`
	Notes          []string  `json:"notes,omitempty"`
	There          bool      `json:"run_there,omitempty"` // by Run.There
	TraceHashes    []string  `json:"trace_hashes,omitempty"`
	Datagrams      uint64    `json:"datagrams,omitempty"`
	VirtualSeconds float64   `json:"virtual_seconds,omitempty"`
	WallSeconds    float64   `json:"wall_seconds"`
	// StalledSeconds is for how long, of that, the process had no processor, in live
	// runs: what a verdict cannot say, because it is of the machine and not of what runs
	// on it. StalledMost is the longest at a time.
	StalledSeconds float64 `json:"stalled_seconds,omitempty"`
	StalledMost    float64 `json:"stalled_most_seconds,omitempty"`
	Error          string  `json:"error,omitempty"`
}

// Versions is what ran, and where.
type Versions struct {
	Nyx      string `json:"nyx,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the work tree had changes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	CPUs     int    `json:"cpus"`
}

func (l *Lab) newEvidence(s *Scenario, o Options, started time.Time) *Evidence {
	return &Evidence{Format: EvidenceFormat, Scenario: s.ID, Title: s.Title, Digest: s.Digest, Mode: s.Mode,
		Seed: o.Seed, Scale: o.Scale, FullLoad: s.Scale.Full, SLI: s.SLI, Metrics: s.Metric,
		Started: started.UTC().Truncate(time.Second), Versions: l.versions(), ControlOff: s.Control.Off,
		Replay: fmt.Sprintf("nyx scenario run %s --seed %d --scale %s", s.ID, o.Seed,
			strconv.FormatFloat(o.Scale, 'g', -1, 64))}
}

// same compares all but the wall clock.
func (x Execution) same(o Execution) bool {
	x.WallSeconds, x.StalledSeconds, x.StalledMost = 0, 0, 0
	o.WallSeconds, o.StalledSeconds, o.StalledMost = 0, 0, 0
	return reflect.DeepEqual(x, o)
}

// Passed reports whether the scenario's objectives were met, and shown to be
// measurable by the control.
func (e *Evidence) Passed() bool { return e.Verdict == VerdictMet }

// Held reports whether no objective was missed and nothing speaks against the run:
// Passed, or a run that a smaller scale or the missing control keeps from it.
func (e *Evidence) Held() bool {
	return e.Passed() || e.Verdict == VerdictSmall || e.Verdict == VerdictUnproven
}

// ran says when the run was, how long it took, and of which version it is.
func (e *Evidence) ran() string {
	of := e.Versions.Nyx
	if c := e.Versions.Commit; c != "" {
		of = c[:min(len(c), 10)]
		if e.Versions.Modified {
			of += " with changes"
		}
	}
	text := fmt.Sprintf("%s, %.0f s", e.Started.Format("2006-01-02 15:04"), e.DurationSeconds)
	if of != "" {
		text += ", " + of
	}
	return text
}

// FileName is the name of the evidence in its directory.
func (e *Evidence) FileName() string {
	return fmt.Sprintf("%s-seed%d-scale%s.json", strings.ToLower(e.Scenario), e.Seed,
		strconv.FormatFloat(e.Scale, 'g', -1, 64))
}

// Write stores evidence in a directory, which it makes, whole or not at all.
// Evidence of the same scenario, seed and scale is replaced.
func (e *Evidence) Write(dir string) (path string, err error) {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write evidence: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("write evidence: %w", err)
	}
	path = filepath.Join(dir, e.FileName())
	return path, writeWhole(path, append(data, '\n'))
}

// writeWhole replaces a file by renaming a complete one over it.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".evidence-*")
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(data)
	err = cmp.Or(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

// ReadEvidence reads every evidence file of a directory, ordered by scenario,
// then start. A directory that does not exist holds none.
func ReadEvidence(dir string) ([]*Evidence, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*-seed*.json"))
	if err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	var all []*Evidence
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read evidence: %w", err)
		}
		e := &Evidence{}
		if err := json.Unmarshal(data, e); err != nil {
			return nil, fmt.Errorf("%s is not evidence: %w. Remove it and run the scenario again", path, err)
		}
		if e.Format != EvidenceFormat {
			return nil, fmt.Errorf("%s has format %d, this program reads %d. Run the scenario again", path, e.Format, EvidenceFormat)
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b *Evidence) int {
		return cmp.Or(cmp.Compare(a.Scenario, b.Scenario), a.Started.Compare(b.Started))
	})
	return all, nil
}

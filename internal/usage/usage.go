// Package usage is what the command line tells of its own use, if its user has said that it
// may, and to whom. Without that nothing is kept and nothing is sent.
//
// What is told is which commands of the program ended how, in coarse figures: usage.go holds
// all of it, and nothing else can be put in. store.go keeps it on disk, encrypted, for as long
// as it is not told, and says when it is; post.go tells it.
package usage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Status is how a command ended.
type Status string

// Statuses.
const (
	OK          Status = "ok"
	Failed      Status = "error"
	Interrupted Status = "interrupted"
)

// Use is a command that ended. No argument, flag or output of it has a place here.
type Use struct {
	// Command is its place in the tree of commands, as in "nyx audit query".
	Command string
	Status  Status
	Took    time.Duration
}

// Count is how many commands were alike on a day, by the Universal Time of this machine. It
// holds no moment, and no two of one machine can be told from those of two.
type Count struct {
	Day     string `json:"day"`
	Command string `json:"command"`
	Status  Status `json:"status"`
	Took    string `json:"took"`    // "under 1s", "under 10s", "under 1m", "under 1h", "1h and more"
	Version string `json:"version"` // of a release, as in "v1.2.3", or "development"
	OS      string `json:"os"`      // "linux", "darwin", "windows", "other"
	N       int    `json:"n,omitempty"`
}

// Report is all that is sent. It has no name of a user, a machine or a network.
type Report struct {
	Format int `json:"format"`
	// Backlog is of how many commands nothing was told yet: those of Counts.
	Backlog int     `json:"cli_telemetry_backlog"`
	Counts  []Count `json:"counts"`
}

const reportFormat = 1

var (
	commandPattern = regexp.MustCompile(`^nyx(-lite)?( [a-z]+(-[a-z]+)*){0,3}$`)
	versionPattern = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
	dayPattern     = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
)

const (
	development = "development"
	otherOS     = "other"
)

var (
	statuses = []Status{OK, Failed, Interrupted}
	systems  = []string{"linux", "darwin", "windows", otherOS}
	spans    = []struct {
		under time.Duration
		name  string
	}{{time.Second, "under 1s"}, {10 * time.Second, "under 10s"}, {time.Minute, "under 1m"}, {time.Hour, "under 1h"}}
)

const longest = "1h and more"

func span(d time.Duration) string {
	for _, s := range spans {
		if d < s.under {
			return s.name
		}
	}
	return longest
}

// version is this program's, if it is a release: what somebody has built from a working tree
// would name its commit, which few have.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && versionPattern.MatchString(info.Main.Version) && !strings.HasPrefix(info.Main.Version, "v0.0.0") {
		return info.Main.Version
	}
	return development
}

// count is a use as one count.
func (u *Use) count(now time.Time) (Count, error) {
	c := Count{Day: day(now).Format(time.DateOnly), Command: u.Command, Status: u.Status, Took: span(u.Took), Version: version(), OS: otherOS}
	if slices.Contains(systems, runtime.GOOS) {
		c.OS = runtime.GOOS
	}
	return c, c.check()
}

func day(now time.Time) time.Time { return now.UTC().Truncate(24 * time.Hour) }

// check says what does not belong into a count.
func (c *Count) check() error {
	took := c.Took == longest
	for _, s := range spans {
		took = took || c.Took == s.name
	}
	if !dayPattern.MatchString(c.Day) || !commandPattern.MatchString(c.Command) || !slices.Contains(statuses, c.Status) || !took ||
		c.Version != development && !versionPattern.MatchString(c.Version) || !slices.Contains(systems, c.OS) || c.N != 0 {
		return fmt.Errorf("usage: %+v is nothing that may be told", *c)
	}
	return nil
}

// sum makes a report of what was kept, one count at a time; what is no count is left out.
func sum(kept [][]byte) Report {
	counts := map[Count]int{}
	r := Report{Format: reportFormat, Counts: []Count{}}
	for _, b := range kept {
		var c Count
		if json.Unmarshal(b, &c) == nil && c.check() == nil {
			counts[c]++
			r.Backlog++
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(counts), compare) {
		n := counts[c]
		c.N = n
		r.Counts = append(r.Counts, c)
	}
	return r
}

func compare(a, b Count) int {
	return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Command, b.Command), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Took, b.Took), cmp.Compare(a.Version, b.Version))
}

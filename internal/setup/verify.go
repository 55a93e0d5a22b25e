package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
)

// Suffixes of what Verify reads beside logs and checkpoints.
const (
	documentSuffix = "document" // authority.document, and others
	proofSuffix    = ".tlog-proof"
	evidenceSuffix = ".json" // evidence-….json
)

// Verified is what is known of one file.
type Verified struct {
	File string `json:"file"`
	Kind string `json:"kind"` // document, log, checkpoint, evidence, logs
	OK   bool   `json:"ok"`
	Says string `json:"says"`
}

// verifier holds what the files are held against each other by.
type verifier struct {
	policy *translog.Policy
	trust  *directory.Trust
	watch  *translog.Watch
	logs   map[string]*translog.Log // by origin; the longest copy
	out    []Verified
}

// Verify checks files that authorities, witnesses, nodes and clients keep, without
// asking anybody: documents by their signatures and by the logs and proofs among the
// files, logs by their checkpoints, checkpoints of all parties against the logs, all
// logs against each other, and evidence. Of a directory it takes the files that it
// knows. That a document has ended is no fault.
func Verify(n *Network, paths []string) ([]Verified, error) {
	files, err := verifiable(paths)
	if err != nil {
		return nil, err
	}
	policy := translog.NewPolicy(&n.Trust)
	v := &verifier{policy: policy, trust: &n.Trust, watch: translog.NewWatch(policy), logs: map[string]*translog.Log{}}
	// Logs come first, what is held against them after.
	for _, check := range []struct {
		kind string
		is   func(string) bool
		of   func(string) (string, error)
	}{
		{"log", func(f string) bool { return strings.HasSuffix(f, EntriesSuffix) }, v.log},
		{"checkpoint", func(f string) bool { return strings.HasSuffix(f, CheckpointSuffix) }, v.checkpoint},
		{"document", func(f string) bool { return strings.HasSuffix(f, documentSuffix) }, v.document},
		{"evidence", isEvidence, v.evidence},
	} {
		for _, f := range files {
			if !check.is(filepath.Base(f)) {
				continue
			}
			says, err := check.of(f)
			if err != nil {
				says = err.Error()
			}
			v.out = append(v.out, Verified{f, check.kind, err == nil, says})
		}
	}
	return v.out, nil
}

func isEvidence(f string) bool {
	return strings.HasPrefix(f, "evidence-") && strings.HasSuffix(f, evidenceSuffix)
}

// verifiable lists the files of paths that Verify knows. A file that is named and
// not known is an error; one in a directory is somebody else's.
func verifiable(paths []string) (files []string, err error) {
	known := func(f string) bool {
		f = filepath.Base(f)
		return isEvidence(f) || slices.ContainsFunc([]string{EntriesSuffix, CheckpointSuffix, documentSuffix}, func(s string) bool { return strings.HasSuffix(f, s) })
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot verify: %w", err)
		case !info.IsDir() && !known(p):
			return nil, fmt.Errorf("%s is no document, log (%s), checkpoint (%s) or evidence (evidence-*%s), by its name", p, EntriesSuffix, CheckpointSuffix, evidenceSuffix)
		case !info.IsDir():
			files = append(files, p)
			continue
		}
		err = filepath.WalkDir(p, func(f string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && known(f) {
				files = append(files, f)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot verify: %w", err)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// log checks entries against the checkpoint beside them, and against what other
// files say of all logs.
func (v *verifier) log(path string) (string, error) {
	b, err := readFile(path, entriesMax)
	if err != nil {
		return "", err
	}
	entries, rest := translog.ParseEntries(b)
	note, err := LoadNote(strings.TrimSuffix(path, EntriesSuffix) + CheckpointSuffix)
	if err != nil {
		return "", err
	}
	if note == nil {
		return "", errors.New("no checkpoint beside it says what it should hold")
	}
	c, witnesses, err := v.policy.Open(note)
	if err != nil {
		return "", err
	}
	l := &translog.Log{}
	for i, e := range entries {
		if _, err := l.Append(e); err != nil {
			return "", fmt.Errorf("entry %d: %w", i, err)
		}
	}
	if err := l.Holds(c); err != nil {
		return "", err
	}
	says := fmt.Sprintf("%s: %d entries, as its checkpoint says, which %d witnesses have cosigned", c.Origin, c.Size, witnesses)
	if more := l.Size() - c.Size; more > 0 {
		says += fmt.Sprintf("; %d more that it does not cover yet", more)
	}
	if len(rest) > 0 {
		says += "; an entry is half written"
	}
	if old := v.logs[c.Origin]; old == nil || old.Size() < l.Size() {
		v.logs[c.Origin] = l
	}
	found, err := v.watch.Extend(note, entries[min(v.watch.Size(c.Origin), c.Size):c.Size])
	if err != nil {
		return "", fmt.Errorf("against the other files: %w", err)
	}
	if len(found) > 0 {
		f, err := found[0].Judge(v.policy, v.trust)
		return "", errors.Join(errors.New(f.Says), err)
	}
	return says, nil
}

// checkpoint checks a note against the log that it is of, if that is there.
func (v *verifier) checkpoint(path string) (string, error) {
	note, err := LoadNote(path)
	if err != nil {
		return "", err
	}
	c, witnesses, err := v.policy.Open(note)
	if err != nil {
		return "", err
	}
	says := fmt.Sprintf("%s: %d entries, %d witnesses", c.Origin, c.Size, witnesses)
	l := v.logs[c.Origin]
	if l == nil || l.Size() < c.Size {
		return says + "; no log is here that reaches so far", nil
	}
	if err := l.Holds(c); err != nil {
		return "", fmt.Errorf("of another log than the one here: %w", err)
	}
	return says + "; the log here is the same", nil
}

// document checks signatures, and that a log here or the proof beside it has it.
func (v *verifier) document(path string) (string, error) {
	b, err := readFile(path, directory.MaxDocumentSize)
	if err != nil {
		return "", err
	}
	d, err := directory.VerifyPast(b, v.trust)
	if err != nil {
		return "", err
	}
	says := fmt.Sprintf("epoch %d revision %d, %d nodes, %d signatures", d.Epoch, d.Revision, d.Count, d.KeepValid(v.trust))
	proof, err := readOrNone(strings.TrimSuffix(path, filepath.Ext(path))+proofSuffix, translog.MaxProofSize)
	if err != nil {
		return "", err
	}
	if proof != nil {
		p, err := translog.ParseProof(proof)
		if err != nil {
			return "", err
		}
		c, err := v.policy.Verify(d.SignedHeader(), p)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s; proven to be in %s", says, c.Origin), nil
	}
	in := 0
	for _, l := range v.logs {
		if _, ok := l.Find(d.Mark()); ok {
			in++
		}
	}
	switch {
	case !v.policy.Demanded():
		return says + "; this network has no logs", nil
	case len(v.logs) == 0:
		return says + "; no log or proof is here to look it up in", nil
	case in == 0:
		return "", fmt.Errorf("%w: %s, in none of %d logs here", translog.ErrNotLogged, says, len(v.logs))
	}
	return fmt.Sprintf("%s; in %d of %d logs here", says, in, len(v.logs)), nil
}

// evidence is a fault of the network's, so that it is never in order.
func (v *verifier) evidence(path string) (string, error) {
	b, err := readFile(path, translog.MaxEvidenceSize)
	if err != nil {
		return "", err
	}
	e, err := translog.ParseEvidence(b)
	if err != nil {
		return "", err
	}
	f, err := e.Judge(v.policy, v.trust)
	if err != nil {
		return "", err
	}
	proven := "PROVEN"
	if !f.Proven {
		proven = "not proven"
	}
	return "", fmt.Errorf("%s: %s (accused: %s)", proven, f.Says, strings.Join(f.Accused, ", "))
}

// FindNetwork looks for the network file of files: network.toml in their directory
// or one of the three above.
func FindNetwork(path string) (*Network, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for range 4 {
		file := filepath.Join(dir, "network.toml")
		if _, err := os.Stat(file); err == nil {
			return LoadNetwork(file)
		}
		dir = filepath.Dir(dir)
	}
	return nil, fmt.Errorf("no network.toml in or above %s; name the network file with --network", path)
}

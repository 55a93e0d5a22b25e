package setup

import (
	"bytes"
	"encoding/binary"
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

// Names of what Verify reads beside logs and checkpoints.
const (
	documentSuffix = "document"  // other.document
	storedPrefix   = "document_" // of an authority without another store
	tableFile      = "table"     // of a replica's snapshot, with its shards
	snapshotSuffix = ".snapshot" // of an authority's store
	shardPrefix    = "shard-"
	proofSuffix    = ".tlog-proof"
	markSuffix     = ".newest"
	evidencePrefix = "evidence-"
	evidenceSuffix = ".json"
)

// Verified is what is known of one file.
type Verified struct {
	File string `json:"file"`
	Kind string `json:"kind"` // log, checkpoint, document, mark, evidence, store, directory
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

// verification is one kind of files, by their paths.
type verification struct {
	kind string
	is   func(path string) bool
	of   func(v *verifier, path string) (string, error)
}

// verifications are all kinds, in the order in which they are verified: logs come
// first, what is held against them after.
func verifications() []verification {
	return []verification{
		{"log", ends(EntriesSuffix), (*verifier).log},
		{"checkpoint", ends(CheckpointSuffix), (*verifier).checkpoint},
		{"document", ends(documentSuffix), (*verifier).document},
		{"document", func(path string) bool { return filepath.Base(path) == tableFile }, (*verifier).snapshot},
		{"document", begins(storedPrefix), (*verifier).stored},
		{"document", ends(snapshotSuffix), (*verifier).written},
		{"document", isOrphan, (*verifier).orphan},
		{"mark", ends(markSuffix), (*verifier).mark},
		{"evidence", func(path string) bool { return begins(evidencePrefix)(path) && ends(evidenceSuffix)(path) }, (*verifier).evidence},
		{"store", isStore, func(*verifier, string) (string, error) {
			return "not looked into: write what an authority keeps in etcd into a file by nyx directory snapshot, as NAME" + snapshotSuffix + ", and verify that", nil
		}},
	}
}

func ends(suffix string) func(string) bool {
	return func(path string) bool { return strings.HasSuffix(filepath.Base(path), suffix) }
}

func begins(prefix string) func(string) bool {
	return func(path string) bool { return strings.HasPrefix(filepath.Base(path), prefix) }
}

// Verify checks files that authorities, witnesses, replicas, nodes and clients keep,
// without asking anybody: documents by their signatures and by the logs and proofs
// among the files, logs by their checkpoints, checkpoints of all parties by their
// witnesses and against the logs, all logs against each other, and evidence. Of a
// directory it takes the files that it knows; that there is none is a fault. That a
// document has ended is none.
func Verify(n *Network, paths []string) ([]Verified, error) {
	policy := translog.NewPolicy(&n.Trust)
	v := &verifier{policy: policy, trust: &n.Trust, watch: translog.NewWatch(policy), logs: map[string]*translog.Log{}}
	files, err := v.list(paths)
	if err != nil {
		return nil, err
	}
	for _, check := range verifications() {
		for _, f := range files {
			if !check.is(f) {
				continue
			}
			says, err := check.of(v, f)
			if err != nil {
				says = err.Error()
			}
			v.out = append(v.out, Verified{f, check.kind, err == nil, says})
		}
	}
	return v.out, nil
}

// verifiable reports whether Verify knows a file.
func verifiable(path string) bool {
	for _, check := range verifications() {
		if check.is(path) {
			return true
		}
	}
	return begins(shardPrefix)(path) // of which the table is verified
}

// list lists the files of paths that Verify knows. A file that is named and not known
// is an error; one in a directory is somebody else's.
func (v *verifier) list(paths []string) (files []string, err error) {
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot verify: %w", err)
		case !info.IsDir() && !verifiable(p):
			return nil, fmt.Errorf("%s is nothing that can be verified, by its name. Name a directory, or a log (*%s), a checkpoint (*%s), a document (*%s, %s of a replica's snapshot, *%s of an authority's store), a mark (*%s) or evidence (%s*%s)",
				p, EntriesSuffix, CheckpointSuffix, "."+documentSuffix, tableFile, snapshotSuffix, markSuffix, evidencePrefix, evidenceSuffix)
		case begins(shardPrefix)(p) && !isOrphan(p):
			files = append(files, filepath.Join(filepath.Dir(p), tableFile))
			continue
		case !info.IsDir():
			files = append(files, p)
			continue
		}
		before := len(files)
		err = filepath.WalkDir(p, func(f string, d fs.DirEntry, err error) error {
			if err == nil && (d.Type().IsRegular() || isStore(f)) && verifiable(f) && (isOrphan(f) || !begins(shardPrefix)(f)) {
				files = append(files, f)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot verify: %w", err)
		}
		if len(files) == before {
			v.out = append(v.out, Verified{p, "directory", false, "nothing of a directory is kept here: it is empty or another's, or its process has not run yet"})
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
	c, witnesses, err := v.open(note, true)
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
		if !begun(rest, entries) {
			return "", fmt.Errorf("%s: %d bytes after the last entry are not the beginning of one: something else was appended. Cut them off, or restore the log from a copy", c.Origin, len(rest))
		}
		says += fmt.Sprintf("; %d bytes are left over, of an entry that is half written", len(rest))
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

// begun reports whether what follows entries can be one that a crash left half
// written: all begin alike, with the format and the network's name.
func begun(rest []byte, entries [][]byte) bool {
	if len(entries) == 0 || len(rest) < 2 {
		return true
	}
	h, _, err := directory.ParseHeader(entries[0])
	if err != nil || int(binary.BigEndian.Uint16(rest)) > translog.MaxEntrySize {
		return false
	}
	head := entries[0][:bytes.Index(entries[0], []byte(h.Network))+len(h.Network)]
	n := min(len(head), len(rest)-2)
	return bytes.Equal(rest[2:2+n], head[:n])
}

// open reads a note, which its log has signed and, if they are demanded, as many
// witnesses as the network file says have cosigned.
func (v *verifier) open(note []byte, witnessed bool) (c translog.Checkpoint, witnesses int, err error) {
	if len(note) == 0 {
		return c, 0, errors.New("the checkpoint is empty: its writing was cut off, or it was emptied. Restore it, or remove it and know that another log is then believed once")
	}
	c, witnesses, err = v.policy.Open(note)
	switch {
	case errors.Is(err, translog.ErrOrigin):
		err = fmt.Errorf("%w is of no authority of the network file: it is another network's, or no checkpoint", err)
	case err == nil && witnessed && witnesses < v.policy.Threshold:
		err = fmt.Errorf("%w: %s, %d entries: %d of %d have cosigned", translog.ErrWitnesses, c.Origin, c.Size, witnesses, v.policy.Threshold)
	}
	return c, witnesses, err
}

// Whose checkpoints are whose: a log's, or the copy of one's, stands beside its
// entries; what a witness has cosigned is what the log alone had signed, before other
// witnesses have.
const (
	logName        = "log"
	copyPrefix     = "log-"
	cosignedPrefix = "cosigned-"
)

// checkpoint checks a note, and against the log that it is of, if that is there.
func (v *verifier) checkpoint(path string) (string, error) {
	note, err := LoadNote(path)
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(path), CheckpointSuffix)
	c, witnesses, err := v.open(note, !strings.HasPrefix(name, cosignedPrefix))
	if err != nil {
		return "", err
	}
	if name == logName || strings.HasPrefix(name, copyPrefix) {
		entries := strings.TrimSuffix(path, CheckpointSuffix) + EntriesSuffix
		if _, err := os.Stat(entries); err != nil {
			return "", fmt.Errorf("%s: its %d entries are missing, %s. Restore them from the copy of an authority, a witness or a replica: %w", c.Origin, c.Size, filepath.Base(entries), err)
		}
	}
	says := fmt.Sprintf("%s: %d entries, %d witnesses", c.Origin, c.Size, witnesses)
	if strings.HasPrefix(name, cosignedPrefix) {
		says = fmt.Sprintf("%s: %d entries, as a witness cosigned them", c.Origin, c.Size)
	}
	l := v.logs[c.Origin]
	if l == nil || l.Size() < c.Size {
		return says + "; no log is here that reaches so far", nil
	}
	if err := l.Holds(c); err != nil {
		return "", fmt.Errorf("of another log than the one here: %w", err)
	}
	return says + "; the log here is the same", nil
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

package setup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/directory/translog"
	"github.com/nyxnet/nyx/internal/mirror"
	"github.com/nyxnet/nyx/internal/registry"
)

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
	says := v.names(d)
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
	return v.inLogs(d.Mark(), says)
}

// names says which document it is, whose signatures the caller has checked.
func (v *verifier) names(d *directory.Document) string {
	return fmt.Sprintf("epoch %d revision %d, %d nodes, %d signatures", d.Epoch, d.Revision, d.Count, d.KeepValid(v.trust))
}

// inLogs adds in how many of the logs here a document stands. One that is in none was
// shown to some and not to all.
func (v *verifier) inLogs(m directory.Mark, says string) (string, error) {
	in := 0
	for _, l := range v.logs {
		if _, ok := l.Find(m); ok {
			in++
		}
	}
	switch {
	case !v.policy.Demanded():
		return says + "; this network has no logs", nil
	case len(v.logs) == 0:
		return says + "; no log or proof is here to look it up in", nil
	case in == 0:
		return "", fmt.Errorf("%w: %s, in none of %d logs here (while a network runs, copies are up to 10 s behind)", translog.ErrNotLogged, says, len(v.logs))
	}
	return fmt.Sprintf("%s; in %d of %d logs here", says, in, len(v.logs)), nil
}

// snapshot checks what a replica keeps: the table by its signatures, and the buckets in
// the shards beside it against the table, which must be all.
func (v *verifier) snapshot(path string) (string, error) {
	b, err := readFile(path, directory.MaxTableSize)
	if err != nil {
		return "", err
	}
	table, err := directory.VerifyTablePast(b, v.trust)
	if err != nil {
		return "", err
	}
	says := v.names(table)
	buckets, err := mirror.Buckets(filepath.Dir(path), table)
	if err == nil {
		_, err = table.Assemble(buckets)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w; the replica fetches what is lost when it starts", says, err)
	}
	return v.inLogs(table.Mark(), fmt.Sprintf("%s, in %d buckets", says, table.Buckets))
}

// isOrphan reports whether a path is a shard without its table.
func isOrphan(path string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(path), tableFile))
	return begins(shardPrefix)(path) && err != nil
}

func (v *verifier) orphan(string) (string, error) {
	return "", errors.New("the table that it is a shard of is missing")
}

// storedHead is the revision that stands before what is kept in a file of a store.
const storedHead = 8

// stored checks what an authority keeps without another store: the table by its
// signatures, and the nodes of its rows in the files beside it against the table.
func (v *verifier) stored(path string) (string, error) {
	b, err := loadStored(path)
	if err != nil {
		return "", err
	}
	table, err := directory.VerifyTablePast(b, v.trust)
	if err != nil {
		return "", err
	}
	rows := table.Rows()
	_, err = table.Join(func(place int) ([]byte, error) {
		return loadStored(filepath.Join(filepath.Dir(path), "part_"+hex.EncodeToString(rows[place].Root[:])))
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.names(table), err)
	}
	return v.inLogs(table.Mark(), v.names(table))
}

func loadStored(path string) ([]byte, error) {
	b, err := readFile(path, directory.MaxDocumentSize)
	if err == nil && len(b) < storedHead {
		err = errors.New("it is cut short")
	}
	if err != nil {
		return nil, err
	}
	return b[storedHead:], nil
}

// written checks the documents in what nyx directory snapshot wrote.
func (v *verifier) written(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	all, err := registry.Documents(f, v.trust)
	if err != nil {
		return "", err
	}
	says := fmt.Sprintf("%d documents", len(all))
	for _, d := range all {
		one, err := v.inLogs(d.Mark(), v.names(d))
		if err != nil {
			return "", err
		}
		says += "; " + one
	}
	return says, nil
}

// mark checks that the newest document that a party used is in the logs, and that the
// party has what it knows of them.
func (v *verifier) mark(path string) (string, error) {
	m, err := LoadMark(path)
	if err != nil {
		return "", err
	}
	party := strings.TrimSuffix(filepath.Base(path), markSuffix)
	prefix := party + ".log-"
	if party == "authority" {
		prefix = logName + CheckpointSuffix
	}
	beside, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	says := fmt.Sprintf("epoch %d revision %d", m.Epoch, m.Revision)
	kept := func(f os.DirEntry) bool { return begins(prefix)(f.Name()) && ends(CheckpointSuffix)(f.Name()) }
	if v.policy.Demanded() && !slices.ContainsFunc(beside, kept) {
		return "", fmt.Errorf("%s, and no checkpoint of a log is here that was kept with it (%s…)", says, prefix)
	}
	return v.inLogs(m, says)
}

// isStore reports whether a path is an authority's store.
func isStore(path string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(path), "authority"+markSuffix))
	return filepath.Base(path) == "etcd" && err == nil
}

package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/seal"
)

// Export is a copy of what a filter wants of the log, in a directory: parts of a
// bounded number of rows, and a manifest with their digests, which is signed when the
// export is complete. It is written part by part; one that was interrupted goes on
// after its last part.
type Export struct {
	Dir    string
	Format audit.Format
	Filter audit.Filter
	// PartRows bounds the rows of a part, which are in memory while they are
	// written; 0 for 100,000.
	PartRows int
	// Signer signs the manifest with the log's key.
	Signer *seal.Signer
	Now    time.Time
	// Done is called after every part; nil for nobody.
	Done func(audit.Part)

	// Write writes a file whole or not at all; nil for one that makes it durable.
	Write func(path string, content []byte) error
	// Once writes no part again that failed, and goes on with the next: what a
	// scenario's control does.
	Once bool
}

const (
	manifestFile  = "manifest.json"
	signatureFile = "manifest.sig"
	signExport    = "nyx audit export 1"
	partRows      = 100_000
	// partTries is how often a part is written before the export gives up and has to
	// be begun anew, from that part on.
	partTries = 3
	// partSpan bounds how many entries are looked at for one part, so that a filter
	// that finds little leaves progress too.
	partSpan = 1 << 20
)

// Run writes what is missing of the export, of what is under the newest checkpoint.
func (x *Export) Run(ctx context.Context, s *Store, key *audit.LogKey) (*audit.Manifest, error) {
	if x.PartRows == 0 {
		x.PartRows = partRows
	}
	if x.Write == nil {
		x.Write = func(path string, content []byte) error { return writeDurable(path, content, datasync) }
	}
	if string(x.Signer.Public()) != string(key.Public) {
		return nil, errors.New("ledger: an export is signed with the key of its log, and this is another")
	}
	if err := os.MkdirAll(x.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	m, err := x.begin(s, key)
	if err != nil {
		return nil, err
	}
	for m.Next() < m.Before {
		if err := x.part(ctx, s, m); err != nil {
			return m, err
		}
	}
	b, err := x.save(m)
	if err != nil {
		return m, err
	}
	sig, err := x.Signer.Sign(signExport, b)
	if err == nil {
		err = x.retry(filepath.Join(x.Dir, signatureFile), sig)
	}
	return m, err
}

// begin reads the manifest of an export that was begun, or makes one.
func (x *Export) begin(s *Store, key *audit.LogKey) (*audit.Manifest, error) {
	b, err := os.ReadFile(filepath.Join(x.Dir, manifestFile))
	if err == nil {
		m := &audit.Manifest{}
		if err := json.Unmarshal(b, m); err != nil || m.Origin != key.Origin || m.Format != x.Format || m.Filter != x.Filter.String() {
			return nil, fmt.Errorf("ledger: %s holds another export; use an empty directory", x.Dir)
		}
		return m, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	note, c, err := s.signed(key)
	if err != nil {
		return nil, err
	}
	first, err := s.Begin()
	return &audit.Manifest{Version: 1, Origin: key.Origin, Format: x.Format, Filter: x.Filter.String(), Made: x.Now.UTC().Truncate(time.Second),
		First: first, Before: c.Size, Checkpoint: string(note)}, err
}

// part writes the next part and notes it.
func (x *Export) part(ctx context.Context, s *Store, m *audit.Manifest) error {
	p := audit.Part{File: fmt.Sprintf("part-%06d.%s", len(m.Parts), x.Format), First: m.Next()}
	p.Before = min(p.First+partSpan, m.Before)
	enc := x.Format.Encoder()
	content := enc.Head(nil)
	err := s.Read(ctx, p.First, p.Before, func(e audit.Entry) error {
		if !x.Filter.Match(&e.Event) {
			return nil
		}
		content = enc.Append(content, &e)
		if p.Rows++; p.Rows == int64(x.PartRows) {
			p.Before = e.Seq + 1
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return err
	}
	begin, err := s.Begin()
	if err != nil {
		return err
	}
	if begin > p.First { // Read passes over what went meanwhile
		return fmt.Errorf("%w: %d to %d; begin it anew in an empty directory", ErrShortened, p.First, begin-1)
	}
	content = enc.Tail(content)
	p.Bytes, p.SHA256 = int64(len(content)), audit.Digest(seal.SHA256(content))
	if err := x.retry(filepath.Join(x.Dir, p.File), content); err != nil && !x.Once {
		return err
	}
	m.Parts = append(m.Parts, p)
	if _, err := x.save(m); err != nil && !x.Once {
		m.Parts = m.Parts[:len(m.Parts)-1]
		return err
	}
	if x.Done != nil {
		x.Done(p)
	}
	return nil
}

func (x *Export) save(m *audit.Manifest) ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = x.retry(filepath.Join(x.Dir, manifestFile), b)
	}
	return b, err
}

func (x *Export) retry(path string, content []byte) (err error) {
	for i := range partTries {
		if err = x.Write(path, content); err == nil || x.Once && i == 0 {
			return err
		}
	}
	return fmt.Errorf("ledger: %w; run the export again, and it goes on from here", err)
}

// SignManifest writes the manifest of what was made in a directory in one go, and its
// signature.
func SignManifest(dir string, m *audit.Manifest, signer *seal.Signer) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	sig, err := signer.Sign(signExport, b)
	if err == nil {
		err = WriteFile(filepath.Join(dir, manifestFile), b)
	}
	if err == nil {
		err = WriteFile(filepath.Join(dir, signatureFile), sig)
	}
	return err
}

// CheckExport checks a complete export by the log's key alone: its manifest is
// signed, and every part is what the manifest says.
func CheckExport(dir string, key *audit.LogKey) (*audit.Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	sig, err := os.ReadFile(filepath.Join(dir, signatureFile))
	if err != nil {
		return nil, fmt.Errorf("ledger: the export is not complete: %w", err)
	}
	if seal.Verify(key.Public, signExport, b, sig) != nil {
		return nil, fmt.Errorf("%w: %s is not signed by the log", audit.ErrBroken, filepath.Join(dir, manifestFile))
	}
	m := &audit.Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	next := m.First
	for _, p := range m.Parts {
		if p.First != next || filepath.Base(p.File) != p.File {
			return nil, fmt.Errorf("%w: part %s does not go on from the one before", audit.ErrBroken, p.File)
		}
		next = p.Before
		content, err := os.ReadFile(filepath.Join(dir, p.File))
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		if audit.Digest(seal.SHA256(content)) != p.SHA256 {
			return nil, fmt.Errorf("%w: %s is not what was exported", audit.ErrBroken, p.File)
		}
	}
	if next != m.Before {
		return nil, fmt.Errorf("%w: the export ends at entry %d, not %d", audit.ErrBroken, next, m.Before)
	}
	return m, nil
}

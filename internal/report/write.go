package report

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/seal"
)

// Formats of reports.
const (
	Markdown audit.Format = "md"
	HTML     audit.Format = "html"
	JSON     audit.Format = "json"
)

// ParseFormat finds a format by its name, which is the suffix of its file too.
func ParseFormat(name string) (audit.Format, error) {
	switch f := audit.Format(name); f {
	case Markdown, HTML, JSON:
		return f, nil
	}
	return "", fmt.Errorf("report: there is no format %q; use md, html or json", name)
}

// Bytes are the report in a format.
func (r *Report) Bytes(format audit.Format) ([]byte, error) {
	switch format {
	case Markdown:
		return r.Markdown(), nil
	case HTML:
		return r.HTML(), nil
	}
	return r.JSON()
}

// Write makes the report of a period in a directory, which is made: the file report
// with the format as its suffix, and a manifest as exports have one, signed with the
// log's key, so that ledger.CheckExport checks it.
func (c *Config) Write(ctx context.Context, dir string, format audit.Format, p Period, now time.Time) (*audit.Manifest, error) {
	if string(c.Days.Signer.Public()) != string(c.Days.Key.Public) {
		return nil, errors.New("report: a report is signed with the key of its log, and this is another")
	}
	r, note, err := c.Make(ctx, p)
	if err != nil {
		return nil, err
	}
	content, err := r.Bytes(format)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	file := "report." + string(format)
	if err := ledger.WriteFile(filepath.Join(dir, file), content); err != nil {
		return nil, err
	}
	v := &r.Verified
	m := &audit.Manifest{
		Version: 1, Origin: r.Origin, Format: format, Filter: fmt.Sprintf("report from=%q to=%q sensitivity<=%d", r.From, r.To, r.Sensitivity),
		Made: now.UTC().Truncate(time.Second), First: v.First, Before: v.Before, Checkpoint: string(note),
		Parts: []audit.Part{{File: file, Rows: int64(r.Events), First: v.First, Before: v.Before, Bytes: int64(len(content)), SHA256: audit.Digest(seal.SHA256(content))}},
	}
	return m, ledger.SignManifest(dir, m, c.Days.Signer)
}

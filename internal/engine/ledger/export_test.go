package ledger

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nyxnet/nyx/internal/audit"
)

// exported reads the revisions of an export in parts of CSV or JSON lines.
func exported(t *testing.T, dir string, m *audit.Manifest) (revisions []string) {
	t.Helper()
	for _, p := range m.Parts {
		b, err := os.ReadFile(filepath.Join(dir, p.File))
		if err != nil {
			t.Fatal(err)
		}
		if m.Format == audit.CSV {
			rows, err := csv.NewReader(strings.NewReader(string(b))).ReadAll()
			if err != nil || len(rows) != int(p.Rows)+1 || rows[0][0] != "seq" {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			for _, row := range rows[1:] {
				var details map[string]string
				if err := json.Unmarshal([]byte(row[13]), &details); err != nil {
					t.Fatal(err)
				}
				revisions = append(revisions, details["revision"])
			}
			continue
		}
		for line := range strings.Lines(string(b)) {
			var e struct {
				Seq     int64
				Kind    string
				Time    string
				Count   int
				Details map[string]string
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Kind != "config.change" || e.Count != 1 || e.Time == "" {
				t.Fatalf("%s: %+v, %v", line, e, err)
			}
			revisions = append(revisions, e.Details["revision"])
		}
	}
	return revisions
}

// TestExport: everything once, in parts; what the filter does not want is not there;
// a changed part or manifest is found.
func TestExport(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 1000)
	f.close(l)
	key, s := l.Key(), l.Store()
	for _, format := range []audit.Format{audit.CSV, audit.JSONLines} {
		dir := t.TempDir()
		x := &Export{Dir: dir, Format: format, Signer: f.cfg.Signer, PartRows: 300, Now: start}
		if _, err := x.Run(t.Context(), s, &key); err != nil {
			t.Fatal(err)
		}
		m, err := CheckExport(dir, &key)
		if err != nil || m.Rows() != 1000 || len(m.Parts) != 4 {
			t.Fatalf("%d rows, %v", m.Rows(), err)
		}
		for i, revision := range exported(t, dir, m) {
			if revision != fmt.Sprint(i) {
				t.Fatalf("row %d has revision %s", i, revision)
			}
		}
		f.edit(filepath.Join(dir, m.Parts[2].File), func(b []byte) []byte { b[100] ^= 1; return b })
		if _, err := CheckExport(dir, &key); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("a changed part: %v", err)
		}
		f.edit(filepath.Join(dir, manifestFile), func(b []byte) []byte { return []byte(strings.Replace(string(b), "300", "301", 1)) })
		if _, err := CheckExport(dir, &key); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("a changed manifest: %v", err)
		}
	}
	dir := t.TempDir()
	x := &Export{Dir: dir, Format: audit.CSV, Filter: audit.Filter{Actor: "operator-1", Severity: audit.Critical}, Signer: f.cfg.Signer, Now: start}
	m, err := x.Run(t.Context(), s, &key)
	if err != nil || m.Rows() != 83 {
		t.Errorf("%d rows, %v", m.Rows(), err)
	}
	x.Filter = audit.Filter{}
	if _, err := x.Run(t.Context(), s, &key); err == nil {
		t.Error("another export into the same directory")
	}
}

// TestExportResumes: an export whose writes fail now and then is complete in the end,
// with no row missing and none twice. Without the second tries it is not.
func TestExportResumes(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.record(l, 500)
	f.close(l)
	key, s := l.Key(), l.Store()
	dir := t.TempDir()
	writes, failures := 0, 0
	x := &Export{Dir: dir, Format: audit.JSONLines, Signer: f.cfg.Signer, PartRows: 20, Now: start}
	x.Write = func(path string, content []byte) error {
		if writes++; writes%7 < 4 { // more often in a row than a part is tried
			failures++
			os.WriteFile(path+".tmp", content[:len(content)/2], 0o600)
			return errors.New("the disk is gone")
		}
		return os.WriteFile(path, content, 0o600)
	}
	var m *audit.Manifest
	interrupted := 0
	for {
		var err error
		if m, err = x.Run(t.Context(), s, &key); err == nil {
			break
		}
		if interrupted++; interrupted > 100 {
			t.Fatal(err)
		}
	}
	if interrupted == 0 || failures == 0 {
		t.Fatal("nothing failed")
	}
	if _, err := CheckExport(dir, &key); err != nil {
		t.Fatal(err)
	}
	got := exported(t, dir, m)
	for i, revision := range got {
		if revision != fmt.Sprint(i) {
			t.Fatalf("row %d has revision %s", i, revision)
		}
	}
	if len(got) != 500 {
		t.Errorf("%d rows", len(got))
	}
}

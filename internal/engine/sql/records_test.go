package sql

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
	"github.com/nyxnet/nyx/internal/control/records/recordstest"
)

func TestRecordsInSQLite(t *testing.T) {
	keepRecords(t, filepath.Join(t.TempDir(), "records?.db"))
}

func TestRecordsInPostgres(t *testing.T) {
	for _, isolation := range []string{"read committed", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			keepRecords(t, startPostgres(t, "-c", "default_transaction_isolation="+isolation))
		})
	}
}

// keepRecords is what holds for records in every database: all that does for every
// store, that another process sees them, and that a row has no other field.
func keepRecords(t *testing.T, where string) {
	s, err := OpenRecords(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	recordstest.Run(t, s)
	other, err := OpenRecords(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// The edges of every field.
	r := control.SessionRecord{Token: control.TokenHash{9, 31: 1}, Version: 1<<32 - 1, Expires: 1 << 40, Class: 255}
	if err := records.Add(t.Context(), s, r, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Get(t.Context(), r.Token, 0); err != nil || got != r {
		t.Errorf("another process finds %+v, error %v", got, err)
	}
	rows, err := s.db.QueryContext(t.Context(), "SELECT * FROM session_records")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if want := []string{"token", "version", "expires", "class"}; err != nil || !slices.Equal(columns, want) {
		t.Errorf("a row holds %v, error %v; a session record holds %v, and nothing else", columns, err, want)
	}
}

// Records whose time is over are found without a look at the others.
func TestExpiryHasAnIndex(t *testing.T) {
	s, err := OpenRecords(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var id, parent, unused int
	var plan string
	if err := s.db.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN SELECT token FROM session_records WHERE expires <= 5 ORDER BY expires LIMIT 3").Scan(&id, &parent, &unused, &plan); err != nil {
		t.Fatal(err)
	}
	if plan != "SEARCH session_records USING INDEX session_records_expires (expires<?)" {
		t.Error(plan)
	}
}

// BenchmarkRecords is the rush of set-ups: so many records are created a second, in
// batches of 150, and looked up.
func BenchmarkRecords(b *testing.B) {
	for name, where := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(b.TempDir(), "records.db") },
		"postgres": func() string { return startPostgres(b) },
	} {
		b.Run(name, func(b *testing.B) {
			s, err := OpenRecords(b.Context(), where())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			n := 0
			next := func() (r control.SessionRecord) {
				n++
				copy(r.Token[:], fmt.Sprintf("%x token %d", n*2654435761, n))
				r.Version, r.Expires = 1, 1000
				return r
			}
			b.Run("create", func(b *testing.B) {
				for b.Loop() {
					all := make([]control.SessionRecord, 150)
					for i := range all {
						all[i] = next()
					}
					if _, err := s.Create(b.Context(), all, 0); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(150*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
			b.Run("get", func(b *testing.B) {
				r := next()
				if err := records.Add(b.Context(), s, r, 0); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := s.Get(b.Context(), r.Token, 0); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

package etcd

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/registry"
)

// BenchmarkEtcd measures the store in the process with values of the size of a
// descriptor: one at a time, and 64.
func BenchmarkEtcd(b *testing.B) {
	value := make([]byte, 9<<10)
	s, err := Embedded(filepath.Join(b.TempDir(), "etcd"), "/nyx/bench/")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n := 0
	put := func() error {
		n++
		_, err := s.Put(b.Context(), fmt.Sprint("one/", n), value, 0)
		return err
	}
	b.Run("Put", func(b *testing.B) {
		for b.Loop() {
			if err := put(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Get", func(b *testing.B) {
		for b.Loop() {
			if e, err := s.Get(b.Context(), "one/1"); err != nil || e.Revision == 0 {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRestore measures the way of 50,000 descriptors from a snapshot into a
// store in the process and out of it, without the verification of signatures.
func BenchmarkRestore(b *testing.B) {
	const many = 50_000
	file, err := os.Create(filepath.Join(b.TempDir(), "snapshot"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if _, _, err := registry.Snapshot(b.Context(), listed(many), file); err != nil {
		b.Fatal(err)
	}
	from := func() io.Reader {
		file.Seek(0, io.SeekStart)
		return file
	}
	for b.Loop() {
		s, err := Embedded(filepath.Join(b.TempDir(), "etcd"), "/nyx/bench/")
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		n, _, err := registry.Verify(from())
		if err != nil || n != many {
			b.Fatalf("%d entries, %v", n, err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s-verify")
		begun = time.Now()
		if _, err := registry.Restore(b.Context(), s, from(), directory.Mark{Epoch: 1}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s-restore")
		begun = time.Now()
		n = 0
		if _, err := s.List(b.Context(), "node/", func(registry.Entry) error { n++; return nil }); err != nil || n != many {
			b.Fatalf("%d entries, %v", n, err)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s-list")
		s.Close()
	}
}

// listed is a store of so many descriptors, of which only List is there.
func listed(many int) registry.Store { return &list{many: many} }

type list struct {
	registry.Store
	many int
}

func (l *list) List(_ context.Context, _ string, each func(registry.Entry) error) (int64, error) {
	value := make([]byte, 9<<10)
	random := rand.NewChaCha8([32]byte{})
	for i := range l.many {
		random.Read(value)
		if err := each(registry.Entry{Key: fmt.Sprintf("node/%064x", i), Value: value}); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

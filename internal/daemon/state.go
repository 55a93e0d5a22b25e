package daemon

import (
	"log/slog"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
)

// signedFile holds the mark of the newest document that an authority signed.
const signedFile = "authority.signed"

// publishedFile holds the document that an authority served last.
const publishedFile = "authority.document"

// loadMark reads a mark in a directory; "" has none.
func loadMark(dir, name string) (directory.Mark, error) {
	if dir == "" {
		return directory.Mark{}, nil
	}
	return setup.LoadMark(filepath.Join(dir, name))
}

// saveMark keeps a mark in a directory; "" keeps none.
func saveMark(dir, name string, m directory.Mark) error {
	if dir == "" {
		return nil
	}
	return setup.SaveMark(filepath.Join(dir, name), m)
}

// loadDocument reads the document that was kept in a directory; "" has none.
func loadDocument(dir string) ([]byte, error) {
	if dir == "" {
		return nil, nil
	}
	return setup.LoadDocument(filepath.Join(dir, publishedFile))
}

// saveDocument keeps a document in a directory; "" keeps none.
func saveDocument(dir string, b []byte) error {
	if dir == "" {
		return nil
	}
	return setup.SaveDocument(filepath.Join(dir, publishedFile), b)
}

func logOrNone(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

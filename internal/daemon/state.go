package daemon

import (
	"log/slog"
	"path/filepath"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/setup"
)

// signedFile holds the mark of the newest document that an authority signed before
// it had a registry.
const signedFile = "authority.signed"

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

func logOrNone(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

package span

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const (
	// FileName is the file of a process's spans, in its state directory.
	FileName = "traces.jsonl"
	// FileMax is the size from which on a file is put aside, in the place of the one
	// that was put aside before: some 20,000 spans, a day of probes at one a minute.
	FileMax = 6 << 20
	// lineMax bounds a span as written: names and values are short.
	lineMax = 4 << 10
)

// File keeps spans in a file, one JSON object a line. It is a Recorder.
type File struct {
	path string
	fail func(error)

	mu     sync.Mutex
	f      *os.File
	size   int64
	max    int64
	failed bool
}

// Open opens the file at a path, which it makes if there is none. fail hears of the first
// span in a row that could not be written.
func Open(path string, fail func(error)) (*File, error) {
	f := &File{path: path, fail: fail, max: FileMax}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("cannot keep traces: %w", err)
	}
	return f, nil
}

func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.f, f.size = file, info.Size()
	return nil
}

// aside is where a full file is put.
func aside(path string) string { return path + ".1" }

// Record implements Recorder. What cannot be written is lost, and fail hears of it.
func (f *File) Record(s Span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.write(&s)
	if err != nil && !f.failed && f.fail != nil {
		f.fail(err)
	}
	f.failed = err != nil
}

func (f *File) write(s *Span) error {
	if err := s.Validate(); err != nil {
		return err
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if f.f != nil && f.size >= f.max {
		err := f.f.Close()
		f.f = nil
		if err = errors.Join(err, os.Rename(f.path, aside(f.path))); err != nil {
			return err
		}
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	n, err := f.f.Write(append(line, '\n'))
	f.size += int64(n)
	return err
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// Read returns the spans in files, and in the files of directories and of those below
// them. A last line that a process is writing, or was when it died, is left out.
func Read(paths ...string) (spans []Span, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read traces: %w", err)
		}
		files := []string{path}
		if info.IsDir() {
			if files, err = below(path); err != nil {
				return nil, err
			}
		}
		for _, file := range files {
			if spans, err = readFile(spans, file); err != nil {
				return nil, err
			}
		}
	}
	return spans, nil
}

func below(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name := filepath.Base(path); err == nil && !d.IsDir() && (name == FileName || name == aside(FileName)) {
			files = append(files, path)
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil // of another user, or gone meanwhile
		}
		return err
	})
	return files, err
}

func readFile(to []Span, path string) ([]Span, error) {
	f, err := os.Open(path)
	if err != nil {
		return to, fmt.Errorf("cannot read traces: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, lineMax)
	for n := 1; lines.Scan(); n++ {
		var s Span
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			if !lines.Scan() {
				return to, nil
			}
			return to, fmt.Errorf("%s, line %d is no span: %w", path, n, err)
		}
		if err := s.Validate(); err != nil {
			return to, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		to = append(to, s)
	}
	return to, lines.Err()
}

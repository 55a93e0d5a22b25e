package span

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	f      io.WriteCloser // nil: to be opened
	size   int64
	max    int64
	cut    bool // the last line has no end: the next begins with one
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
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	last := []byte{'\n'}
	if err == nil && info.Size() > 0 { // a process that died may have left half a line
		_, err = file.ReadAt(last, info.Size()-1)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.f, f.size, f.cut = file, info.Size(), last[0] != '\n'
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
	line = append(line, '\n')
	if f.cut {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.f.Write(line)
	if f.size += int64(n); n > 0 {
		f.cut = n < len(line)
	}
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
// them, and how many lines are no spans, which it passes over: a full disk leaves halves. A
// last line that a process is writing, or was when it died, is left out.
func Read(paths ...string) (spans []Span, broken int, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read traces: %w", err)
		}
		files := []string{path}
		if info.IsDir() {
			if files, err = below(path); err != nil {
				return nil, 0, err
			}
		}
		for _, file := range files {
			var passed int
			if spans, passed, err = readFile(spans, file); err != nil {
				return nil, 0, err
			}
			broken += passed
		}
	}
	return spans, broken, nil
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

func readFile(to []Span, path string) (spans []Span, broken int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return to, 0, fmt.Errorf("cannot read traces: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, lineMax)
	for {
		line, err := lines.ReadSlice('\n')
		s, ok := parse(line)
		for errors.Is(err, bufio.ErrBufferFull) { // longer than any span
			ok = false
			_, err = lines.ReadSlice('\n')
		}
		switch {
		case ok:
			to = append(to, s)
		case err == nil && len(line) > 1:
			broken++
		}
		if errors.Is(err, io.EOF) {
			return to, broken, nil
		} else if err != nil {
			return to, broken, fmt.Errorf("cannot read traces: %w", err)
		}
	}
}

// parse reads one line.
func parse(line []byte) (s Span, ok bool) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if d.Decode(&s) != nil || d.More() {
		return s, false
	}
	return s, s.Validate() == nil
}

// Package worm keeps a copy of an audit log where nobody can change or remove it for a
// time, neither who runs the network nor who has stolen its keys: in a bucket with
// object lock. The name is what such stores are called: write once, read many.
//
// Every file of the log only grows. Its copy is a row of parts, objects that are put
// once and never touched again:
//
//	PREFIX/log.key/000000000000
//	PREFIX/segments/20261123-000000000512.seg/000000000000
//	PREFIX/segments/20261123-000000000512.seg/000000004711   what follows byte 4711
//	PREFIX/checkpoints/000000000000
//	PREFIX/hashes/000000000000                               once retention has removed
//
// What is copied is what a signed checkpoint covers, entries before the checkpoint, so
// that the copy verifies at every moment (ledger.Store.Settled). Entries are encrypted
// in it as they are on the disk; the keys that open them are not copied.
package worm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
)

// ErrOther means a place that holds something else than the beginning of this log.
var ErrOther = errors.New("it is not the beginning of this log")

// Bucket is where parts are put; s3.Bucket is one.
type Bucket interface {
	// Check returns s3.ErrUnlocked unless objects can be locked.
	Check(ctx context.Context) error
	// Put puts a new object under a lock in compliance mode; s3.ErrExists if it is not
	// new.
	Put(ctx context.Context, key string, content []byte, until time.Time) (s3.Object, error)
	// Extend locks an object that is there, in compliance mode, until a time that is no
	// earlier than that until which it is locked.
	Extend(ctx context.Context, o s3.Object, until time.Time) error
	// List lists the first versions of objects, by key.
	List(ctx context.Context, prefix string) ([]s3.Object, error)
	Get(ctx context.Context, o s3.Object) ([]byte, s3.Lock, error)
	String() string
}

// Place is where the copy of one log is: below a prefix, which ends with a slash or is
// empty, in a bucket.
type Place struct {
	Bucket Bucket
	Prefix string
}

func (p Place) String() string { return p.Prefix + " in " + p.Bucket.String() }

// part is a piece of a file, from a byte on.
type part struct {
	s3.Object
	at int64
	// until is until when it is locked, the zero time of one that the copier has not
	// compared with the log yet.
	until time.Time
}

func (p part) end() int64 { return p.at + p.Size }

// key is the name of a part of a file.
func (p Place) key(file string, at int64) string {
	return fmt.Sprintf("%s%s/%012d", p.Prefix, file, at)
}

// parts lists the parts of all files, by file. What else lies below the prefix is
// passed over.
func (p Place) parts(ctx context.Context) (map[string][]part, error) {
	objects, err := p.Bucket.List(ctx, p.Prefix)
	if err != nil {
		return nil, err
	}
	all := map[string][]part{}
	for _, o := range objects {
		file, number := path.Split(strings.TrimPrefix(o.Key, p.Prefix))
		file = strings.TrimSuffix(file, "/")
		if at, err := strconv.ParseInt(number, 10, 64); err == nil && ofLog(file) && p.key(file, at) == o.Key {
			all[file] = append(all[file], part{Object: o, at: at})
		}
	}
	return all, nil
}

// ofLog reports whether a file is one of those that are copied.
func ofLog(file string) bool {
	dir, name := path.Split(file)
	switch dir {
	case "":
		return slices.Contains([]string{keyFile, hashesFile, checkpointsFile}, name)
	case segmentsDir:
		return strings.HasSuffix(name, ".seg") && strings.Trim(strings.TrimSuffix(name, ".seg"), "0123456789-") == ""
	}
	return false
}

// Files of a log, as ledger names them.
const (
	keyFile, hashesFile, checkpointsFile = "log.key", "hashes", "checkpoints"
	segmentsDir                          = "segments/"
)

// hole is the first piece of the first size bytes of a file that no part holds, no
// longer than an object can be; from equals to if there is none.
func hole(parts []part, size int64) (from, to int64) {
	for _, p := range parts {
		if p.at > from {
			return from, min(p.at, size, from+s3.ContentMax)
		}
		from = max(from, p.end())
	}
	return min(from, size), min(size, from+s3.ContentMax)
}

// with adds a part in its place, or puts it in the place of what is known of it.
func with(parts []part, p part) []part {
	i, known := find(parts, p.at)
	if known {
		parts[i] = p
		return parts
	}
	return slices.Insert(parts, i, p)
}

// find returns where a part is that begins at a byte, or would be.
func find(parts []part, at int64) (int, bool) {
	return slices.BinarySearchFunc(parts, at, func(p part, at int64) int { return cmp.Compare(p.at, at) })
}

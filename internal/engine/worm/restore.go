package worm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
)

// Restored is what a copy was made of.
type Restored struct {
	Files   int   `json:"files"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Locked objects can be removed by nobody now, and the first of them at Until.
	Locked int       `json:"locked"`
	Until  time.Time `json:"until"`
	// Unlocked is how many have no lock though it should still hold, and Bare the name
	// of the first.
	Unlocked int    `json:"unlocked"`
	Bare     string `json:"unlocked_first,omitempty"`
	// Upon is how many later versions and marks of deletion somebody has put upon
	// objects. They change nothing.
	Upon int `json:"put_upon"`
}

// Restore writes the log of which a copy is there into a directory that is empty or not
// there. Whether it is the log is for ledger.Store.Verify to say. each, if it is not nil,
// is called after each object. A part of a segment should be locked for so many days from
// its day on; 0: they are not known, and that there is a lock or was one is enough.
func Restore(ctx context.Context, p Place, dir string, days int, now time.Time, each func(Restored)) (r Restored, err error) {
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if len(there) > 0 {
		return r, fmt.Errorf("%s is not empty; name a directory that is", dir)
	}
	all, err := p.parts(ctx)
	if err != nil {
		return r, err
	}
	if len(all[keyFile]) == 0 {
		return r, fmt.Errorf("%w: there is no copy of an audit log at %v", s3.ErrNone, p)
	}
	if err := os.MkdirAll(filepath.Join(dir, segmentsDir), 0o700); err != nil {
		return r, err
	}
	locks := protection{r: &r, days: days, now: now}
	for _, file := range slices.Sorted(maps.Keys(all)) {
		if err := p.restore(ctx, filepath.Join(dir, filepath.FromSlash(file)), file, all[file], &locks, each); err != nil {
			return r, err
		}
	}
	locks.end()
	return r, nil
}

// restore writes one file.
func (p Place) restore(ctx context.Context, to, file string, parts []part, locks *protection, each func(Restored)) (err error) {
	r := locks.r
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end := int64(0)
	for _, part := range parts {
		if part.at > end {
			return fmt.Errorf("bytes %d to %d of %s are missing at %v", end, part.at-1, file, p)
		}
		content, lock, err := p.Bucket.Get(ctx, part.Object)
		if err != nil {
			return err
		}
		r.Objects++
		r.Upon += part.Later
		locks.add(file, part.Key, lock)
		if fresh := part.end() - end; fresh > 0 { // one may begin within the one before
			if _, err := f.Write(content[part.Size-fresh:]); err != nil {
				return err
			}
			r.Bytes, end = r.Bytes+fresh, part.end()
		}
		if each != nil {
			each(*r)
		}
	}
	r.Files++
	return f.Sync()
}

package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nyxnet/nyx/internal/directory"
	"github.com/nyxnet/nyx/internal/seal"
)

// A snapshot is a directory: the table, and the buckets in four shards, which are
// read and checked at once. A bucket's shard follows from a hash of its region
// and number, so that it stays the same over documents. In a shard a bucket is
// preceded by its length in 4 bytes.
const (
	shards    = 4
	tableFile = "table"
	// shardPrefix begins the names of the shards' files.
	shardPrefix = "shard-"
)

func shardFile(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d", shardPrefix, shard))
}

// ShardOf is the shard of a row.
func ShardOf(r *directory.Row) int {
	h := seal.Hash("directory shard", []byte(r.Region), []byte{byte(r.Bits), byte(r.Index >> 8), byte(r.Index)})
	return int(h[0] >> 6)
}

// Save writes the snapshot of a whole document in place of the one before. The
// table comes last: shards of another document do not fit it, and are fetched.
func Save(dir string, d *directory.Document) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	var files [shards][]byte
	rows := d.Rows()
	for place := range rows {
		b := d.Bucket(place)
		s := ShardOf(&rows[place])
		files[s] = append(binary.BigEndian.AppendUint32(files[s], uint32(len(b))), b...)
	}
	for s, b := range files {
		if err := replace(shardFile(dir, s), b); err != nil {
			return err
		}
	}
	return replace(filepath.Join(dir, tableFile), d.Table())
}

func replace(path string, b []byte) error {
	err := os.WriteFile(path+".new", b, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Load reads and verifies a snapshot: the table, and what there is of its
// buckets, by place, nil for those that are not. It returns nil without an error
// if there is no snapshot. Everything is checked as if it came from a stranger,
// on as many processors as there are shards.
func Load(dir string, trust *directory.Trust, wall int64) (*directory.Document, []*directory.Bucket, error) {
	b, err := os.ReadFile(filepath.Join(dir, tableFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w", err)
	}
	table, err := directory.VerifyTable(b, trust, wall)
	if err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w", err)
	}
	buckets, _ := Buckets(dir, table) // what is lost is nil
	return table, buckets, nil
}

// Buckets reads and verifies what a snapshot has of the buckets of a verified table, by
// place, nil for those that it has not. The error says what is wrong with its files.
func Buckets(dir string, table *directory.Document) ([]*directory.Bucket, error) {
	buckets, wrong := make([]*directory.Bucket, table.Buckets), make([]error, shards)
	var read sync.WaitGroup
	for s := range shards {
		read.Go(func() { wrong[s] = loadShard(shardFile(dir, s), s, table, buckets) })
	}
	read.Wait()
	return buckets, errors.Join(wrong...)
}

// Rebuild is the whole document of a snapshot, nil if there is none.
func Rebuild(dir string, trust *directory.Trust, wall int64) (*directory.Document, error) {
	table, buckets, err := Load(dir, trust, wall)
	if table == nil {
		return nil, err
	}
	d, err := table.Assemble(buckets)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return d, nil
}

// loadShard puts the good buckets of a shard into their places, which are no
// other shard's. What follows a bad one is lost with it.
func loadShard(path string, shard int, table *directory.Document, buckets []*directory.Bucket) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	for whole := len(b); len(b) > 0; {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return fmt.Errorf("snapshot: shard %d: %d bytes at %d are no bucket", shard, len(b), whole-len(b))
		}
		n := 4 + int(binary.BigEndian.Uint32(b))
		k, err := directory.ParseBucket(b[4:n], &table.Header)
		if err == nil && ShardOf(&k.Row) != shard {
			err = errors.New("it is another shard's")
		}
		if err != nil {
			return fmt.Errorf("snapshot: shard %d: bucket at %d: %w", shard, whole-len(b), err)
		}
		buckets[k.Place] = k
		b = b[n:]
	}
	return nil
}

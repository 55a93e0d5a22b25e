package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/directory"
)

const (
	// atOnce is how many buckets are asked for at a time.
	atOnce = 8
	// coveredMin is the share of the points, one in so many, for which buckets must
	// be had, present or old: with less, paths would gather on a few nodes, and the
	// view of before is better.
	coveredMin = 4
	// behindAfter is how long after its end an epoch's document is old, though it
	// is valid; a quarter of the epoch if that is less.
	behindAfter = 5 * time.Minute
	// dueAfter is how long after a document was signed every server must have it: a
	// replica looks every 2 s, and may take 20 s for the largest document.
	dueAfter = time.Minute
)

// Reader keeps up with the directory: the whole document, or in a big network
// the table and the buckets of a sample. It belongs to one goroutine.
type Reader struct {
	Asker  *Asker
	Keeper *directory.Keeper
	// Sample chooses the buckets; nil means whole documents always.
	Sample *directory.Sample

	tag  string // of the newest, "" if something of it is lacking
	held map[rowName]heldBucket
}

// rowName names a bucket over documents.
type rowName struct {
	region      string
	bits, index int
}

type heldBucket struct {
	*directory.Bucket
	until int64 // end of validity of the document that it is of
}

func nameOf(r *directory.Row) rowName { return rowName{r.Region, r.Bits, r.Index} }

// Look asks for what is newer than what the reader has, and returns it as a view:
// nil if there is nothing. wall is the time in seconds since 1970. What servers
// are behind with is used if no other has better, and Stats says so.
func (r *Reader) Look(ctx context.Context, wall int64) (*directory.View, error) {
	if r.Sample == nil {
		d, err := r.newest(ctx, wall, DocumentPath, directory.MaxDocumentSize, r.Keeper.Accept)
		if d == nil {
			return nil, err
		}
		return directory.NewView(d)
	}
	table, err := r.newest(ctx, wall, TablePath, directory.MaxTableSize, r.Keeper.AcceptTable)
	if table == nil {
		return nil, err
	}
	tag := r.tag
	r.tag = "" // until everything of it is there
	if table.Count <= directory.WholeMax {
		d, err := r.newest(ctx, wall, DocumentPath, directory.MaxDocumentSize, r.Keeper.Accept)
		if d == nil {
			return nil, err
		}
		return directory.NewView(d)
	}
	v, whole, err := r.partial(ctx, table, wall)
	if whole {
		r.tag = tag
	}
	return v, err
}

// newest asks for a document or table newer than the present one.
func (r *Reader) newest(ctx context.Context, wall int64, path string, most int64, accept func([]byte, int64) (*directory.Document, error)) (*directory.Document, error) {
	var found *directory.Document
	q := &Question{Path: path, Tag: r.tag, Most: most}
	same := false
	q.Take = func(a Answer) error {
		d := r.Keeper.Current(wall)
		if a.Body != nil {
			var err error
			if d, err = accept(a.Body, wall); err != nil {
				return r.excused(err, d, wall)
			}
			found, r.tag = d, a.Tag
		}
		if d == nil || behind(d, wall) {
			return errOld
		}
		same = a.Body == nil
		return nil
	}
	err := r.Asker.Ask(ctx, q)
	d := r.Keeper.Current(wall)
	r.Asker.setBehind(d != nil && behind(d, wall), wall, d)
	if found != nil || same {
		return found, nil
	}
	return nil, err
}

// excused is what accept said of a document, or errNotYet where it is an older one
// and an honest server may not have the newest yet.
func (r *Reader) excused(err error, older *directory.Document, wall int64) error {
	newest := r.Keeper.Current(wall)
	if errors.Is(err, directory.ErrRollback) && newest != nil && !Due(newest, wall) && !behind(older, wall) {
		return fmt.Errorf("%w: %v", errNotYet, err)
	}
	return err
}

// Due reports whether every server must have a document by now.
func Due(d *directory.Document, wall int64) bool { return d.Age(wall) >= dueAfter }

// behind reports whether a document is of an epoch that has passed for long.
func behind(d *directory.Document, wall int64) bool {
	after := min(behindAfter, d.Params.EpochLength/4)
	return d.Params.EpochAt(d.Now(wall)-int64(after/time.Second)) > d.Epoch
}

// partial gets the sample's buckets of a table and makes the view of them. It
// reports whether all of them are those of the table.
func (r *Reader) partial(ctx context.Context, table *directory.Document, wall int64) (v *directory.View, whole bool, err error) {
	picks := r.Sample.Picks(table)
	places := picks.Places()
	got := r.fetch(ctx, table, places, Due(table, wall))
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	held := map[rowName]heldBucket{}
	rows := table.Rows()
	use := map[int]*directory.Bucket{}
	stale := 0
	for i, place := range places {
		name := nameOf(&rows[place])
		old, known := r.held[name]
		switch {
		case got[i] != nil:
			held[name] = heldBucket{got[i], table.ValidUntil}
		case known && old.until > wall:
			held[name] = old
			stale++
		default:
			continue
		}
		use[place] = held[name].Bucket
	}
	r.held = held
	r.Asker.setStale(stale, len(places)-len(use), len(places))
	if len(use)*coveredMin < len(places) {
		return nil, false, fmt.Errorf("directory: only %d of %d buckets could be had", len(use), len(places))
	}
	v, err = directory.NewPartial(table, picks, func(place int) *directory.Bucket { return use[place] })
	return v, stale == 0 && len(use) == len(places), err
}

// fetch gets buckets, some at a time, each of servers of its own choice; nil are
// those that could not be had. One whose row is as it was is not asked for.
func (r *Reader) fetch(ctx context.Context, table *directory.Document, places []int, due bool) []*directory.Bucket {
	got := make([]*directory.Bucket, len(places))
	rows := table.Rows()
	name := Name(table)
	var lacking []int
	for i, place := range places {
		if old, known := r.held[nameOf(&rows[place])]; known && old.Row == rows[place] {
			got[i] = old.Bucket
		} else {
			lacking = append(lacking, i)
		}
	}
	var asking sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for _, i := range lacking {
		turn <- struct{}{}
		asking.Go(func() {
			defer func() { <-turn }()
			place := places[i]
			r.Asker.Ask(ctx, &Question{
				Path: fmt.Sprintf("%s%s/%d", BucketPath, name, place), Most: directory.MaxBucketSize, Due: due,
				Take: func(a Answer) error {
					b, err := directory.ParseBucket(a.Body, &table.Header)
					if err == nil && b.Place != place {
						err = fmt.Errorf("%w: bucket %d in the place of %d", directory.ErrProof, b.Place, place)
					}
					if err == nil {
						got[i] = b
					}
					return err
				},
			})
		})
	}
	asking.Wait()
	return got
}

// setStale notes what of the newest document could not be had, and says so.
func (a *Asker) setStale(stale, missing, all int) {
	a.mu.Lock()
	said := a.stale
	a.stale = stale + missing
	a.mu.Unlock()
	if stale+missing > 0 && stale+missing != said {
		a.log.Warn("part of the directory cannot be had: signed data of an earlier document stands in for it, as far as there is", "buckets", all, "stale", stale, "missing", missing)
	}
}

// setBehind notes whether the newest document is of an epoch that has passed,
// and says so.
func (a *Asker) setBehind(behind bool, wall int64, d *directory.Document) {
	a.mu.Lock()
	said := a.behind
	a.behind = behind
	a.mu.Unlock()
	if behind && !said {
		a.log.Warn("no server has a document of the present epoch: the last one is used while it is valid", "epoch", d.Epoch, "seconds_left", d.ValidUntil-wall)
	}
}

// Lacking is why the directory is not up to date, or nil.
func (a *Asker) Lacking() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.behind:
		return errBehind
	case a.stale > 0:
		return errStale
	}
	return nil
}

var (
	errBehind = errors.New("directory: no server has a document of the present epoch; the last one is used")
	errStale  = errors.New("directory: part of it cannot be had; signed data of an earlier document is used")
)

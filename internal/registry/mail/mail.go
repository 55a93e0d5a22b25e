// Package mail is a pipeline.Bus in a registry.Store that several processes share, its
// members: what one of them publishes is delivered to every one of them. So each can
// keep a log of its own that has everything, and who dies takes nothing away.
//
//	letter/LANE/MEMBER/…   what was published together; all of it, or nothing, is there
//	read/MEMBER            the revision up to which a member has settled all letters
//	dead/LANE/ID/…         messages that are delivered no more, to nobody
//
// What is published is in the store when Publish returns: of a cluster, on most of its
// disks. A letter goes when all members have settled it. What a member has received it
// knows in memory alone: after its end it gets again what came after its mark.
//
//   - mail.go: the bus, and who publishes
//   - letter.go: the bytes of a letter
//   - follow.go: what the store has, and how far this member is
//   - deliver.go: who receives
//   - dead.go: messages that are delivered no more
//   - sweep.go: what one member does for all
package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/pipeline"
	"github.com/nyxnet/nyx/internal/registry"
)

const (
	letterPrefix = "letter/"
	readPrefix   = "read/"
	deadPrefix   = "dead/"
	sweepOffice  = "mail"

	// publishMost bounds a call of Publish that has no limit of its own: a fail-over of
	// the store takes less.
	publishMost = 10 * time.Second
	// again is after what time a store that fails is asked again.
	again = 100 * time.Millisecond
	// lettersMost and letterBytes bound a letter: entries of a store are small.
	lettersMost = 256
	letterBytes = 256 << 10
	// laneBytes bounds a lane where nothing else is said: members keep what waits in
	// memory.
	laneBytes = 64 << 20
	// knownMost bounds the IDs that are known, 12 MB of them.
	knownMost = 1 << 18
)

// Config is a bus's surroundings.
type Config struct {
	// Store is the members' own, below a prefix of the bus; it stays the caller's.
	Store registry.Store
	// Office elects the member that sweeps; nil: this one does.
	Office registry.Office
	// Name is this member's, Members are all of them.
	Name    string
	Members []string
	Limits  pipeline.Limits
	Log     *slog.Logger // nil: none
}

// Bus is a member's side of it.
type Bus struct {
	cfg    Config
	limits pipeline.Limits
	log    *slog.Logger
	born   string // tells letters of this life apart
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	letters map[string]*letter // that the store has, and that are on their way there
	unread  []*letter          // of them, those that are not settled here, by revision
	read    int64              // revision of the last letter before the first of these
	saved   reader             // what the store has of it
	readers map[string]reader
	dead    map[string]struct{} // keys
	held    [pipeline.NumLanes]held
	lanes   [pipeline.NumLanes][]*message
	known   map[[16]byte]*letter // in which an ID came first
	recent  []knownID            // of these, by time
	next    uint64               // letter of this life
	grown   [pipeline.NumLanes]chan struct{}
	moved   chan struct{} // has room while nobody was told that a mark moved
	sweep   chan struct{} // likewise, what there is to sweep
}

// reader is how far a member is.
type reader struct {
	revision int64
	gone     bool  // it was given up: letters after revision may be missing there
	entry    int64 // revision of the store's entry; 0: there is none
}

// held is what a lane has: what this member has not settled, and of the letters that it
// has, what another one has not.
type held struct{ messages, bytes int64 }

type knownID struct {
	id [16]byte
	at time.Time
}

// Open reads what the store has, and follows it until Close.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if cfg.Limits.Bytes == 0 {
		cfg.Limits.Bytes = laneBytes
	}
	b := &Bus{
		cfg: cfg, limits: cfg.Limits.WithDefaults(), log: cfg.Log, born: strconv.FormatInt(time.Now().UnixNano(), 36),
		letters: map[string]*letter{}, readers: map[string]reader{}, dead: map[string]struct{}{}, known: map[[16]byte]*letter{},
		moved: make(chan struct{}, 1), sweep: make(chan struct{}, 1),
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	for lane := range b.grown {
		b.grown[lane] = make(chan struct{})
	}
	at, err := b.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("the bus of the members cannot be read: %w", err)
	}
	if b.saved.gone {
		b.log.Error("this member was away for so long that its audit log lacks events; those of the other members have them")
	}
	ctx, b.cancel = context.WithCancel(context.Background())
	b.tasks.Go(func() { b.follow(ctx, at) })
	b.tasks.Go(func() { b.keep(ctx) })
	b.tasks.Go(func() { b.tidy(ctx) })
	return b, nil
}

// Close implements pipeline.Bus.
func (b *Bus) Close() error {
	b.cancel()
	b.tasks.Wait()
	return nil
}

// Publish implements pipeline.Bus.
func (b *Bus) Publish(ctx context.Context, lane pipeline.Lane, messages ...pipeline.Message) (duplicates int, err error) {
	if err := pipeline.CheckSize(messages); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishMost)
	defer cancel()
	fresh := b.fresh(messages)
	duplicates = len(messages) - len(fresh)
	if !b.room(lane, fresh) {
		return 0, pipeline.ErrFull
	}
	for len(fresh) > 0 {
		n, size := 0, 0
		for n < len(fresh) && n < lettersMost && (n == 0 || size+len(fresh[n].Payload) <= letterBytes) {
			size += len(fresh[n].Payload)
			n++
		}
		if err := b.send(ctx, &letter{lane: lane, messages: fresh[:n]}); err != nil {
			return duplicates, err
		}
		fresh = fresh[n:]
	}
	return duplicates, nil
}

// fresh are the messages that the store does not have yet, each once.
func (b *Bus) fresh(messages []pipeline.Message) []pipeline.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetKnown()
	var out []pipeline.Message
	for _, m := range messages {
		twice := slices.ContainsFunc(out, func(o pipeline.Message) bool { return o.ID == m.ID })
		if _, known := b.known[m.ID]; !known && !twice {
			out = append(out, m)
		}
	}
	return out
}

// room reports whether a lane has room for messages.
func (b *Bus) room(lane pipeline.Lane, messages []pipeline.Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := int64(len(messages)), int64(0)
	for _, m := range messages {
		bytes += int64(len(m.Payload))
	}
	return b.held[lane].messages+n <= b.limits.Messages && b.held[lane].bytes+bytes <= b.limits.Bytes
}

// send puts a letter into the store, however often that takes. A try of which it is not
// known what became is repeated under the same key: there is one letter, whatever came
// of it.
func (b *Bus) send(ctx context.Context, l *letter) error {
	messages := l.messages // which are gone from the letter when the store has told of it
	l.at = time.Now().UTC().Truncate(time.Millisecond)
	l.count()
	value := l.encode()
	b.mu.Lock()
	b.next++
	l.key = fmt.Sprintf("%s%v/%s/%s-%d", letterPrefix, l.lane, b.cfg.Name, b.born, b.next)
	b.add(l)
	b.mu.Unlock()
	for tries := 0; ; tries++ {
		_, err := b.cfg.Store.Put(ctx, l.key, value, 0)
		if err == nil || tries > 0 && errors.Is(err, registry.ErrChanged) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.know(l, messages)
			return nil
		}
		if !pause(ctx, again) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if l.revision == 0 { // it may still come
				b.drop(l.key)
			}
			return fmt.Errorf("the bus of the members takes nothing: %w", err)
		}
	}
}

// add notes a letter. The lock is held.
func (b *Bus) add(l *letter) {
	b.letters[l.key] = l
	b.held[l.lane].messages += l.waiting()
	b.held[l.lane].bytes += l.size
}

// drop forgets a letter that is not there. The lock is held.
func (b *Bus) drop(key string) {
	if l := b.letters[key]; l != nil {
		delete(b.letters, key)
		b.held[l.lane].messages -= l.waiting()
		b.held[l.lane].bytes -= l.size
	}
}

// settle counts a message of a letter as settled here. The lock is held.
func (b *Bus) settle(l *letter) {
	was := l.waiting()
	l.left--
	if b.letters[l.key] == l {
		b.held[l.lane].messages += l.waiting() - was
	}
}

// know notes in which letter IDs came first. The lock is held.
func (b *Bus) know(l *letter, messages []pipeline.Message) {
	for _, m := range messages {
		if _, known := b.known[m.ID]; !known {
			b.known[m.ID] = l
			b.recent = append(b.recent, knownID{m.ID, time.Now()})
		}
	}
}

// forgetKnown forgets IDs that are too old, or too many. The lock is held.
func (b *Bus) forgetKnown() {
	n := 0
	for n < len(b.recent) && (len(b.recent)-n > knownMost || time.Since(b.recent[n].at) > b.limits.Window) {
		delete(b.known, b.recent[n].id)
		n++
	}
	b.recent = slices.Delete(b.recent, 0, n)
}

// Depth implements pipeline.Bus: it counts what some member has not settled.
func (b *Bus) Depth(context.Context) (d pipeline.Depth, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for lane := range b.held {
		d.Waiting[lane] = uint64(b.held[lane].messages)
	}
	d.Dead = uint64(len(b.dead))
	return d, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// told fills a channel that has room for one word.
func told(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

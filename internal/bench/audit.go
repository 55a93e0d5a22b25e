package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/prng"
	"github.com/nyxnet/nyx/internal/seal"
)

const (
	// auditEvents is how many events bench audit verifies by default, and before
	// that a tenth of them, so that growth with the log's length would show.
	auditEvents = 1_000_000
	// auditWriters record one event at a time, as nodes do.
	auditWriters = 64
	// auditVerify is the budget of verification: a hundred times the rate of DF-009,
	// in events per second on one core.
	auditVerify = 500_000
	// auditExport is that of exports: the 100 million events of DF-009 in the 5 min of
	// SCL-031, in events per second on one core.
	auditExport = 100_000_000 / 300.0
)

// runAudit measures the audit log: how fast it takes events, and how fast all of it
// is verified, on one core, with what memory.
func runAudit(ctx context.Context, o Options) ([]Figure, error) {
	o = o.withDefaults()
	events := o.Events
	if events == 0 {
		events = auditEvents
	}
	dir, err := os.MkdirTemp("", "nyx-bench-audit-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	keys, err := ledger.OpenFileKeys(filepath.Join(dir, "keys"), true)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(ctx, ledger.Config{Dir: dir, Origin: "nyx/bench/audit", Node: "bench", Signer: keys.Signer, Wrapper: keys.Wrapper})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	made := &auditSource{random: prng.FromUint64(uint64(events)).Stream("bench/audit")}
	o.Progress("recording one event at a time")
	single, commits, err := recordAlone(ctx, l, made, o.duration())
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, share := range []int{10, 1} {
		o.Progress(fmt.Sprintf("recording and verifying %d events", events/share))
		begun, before := time.Now(), l.Size()
		if err := recordMany(ctx, l, made, int64(events/share)); err != nil {
			return nil, err
		}
		bulk := float64(l.Size()-before) / time.Since(begun).Seconds()
		if _, err := l.Checkpoint(ctx); err != nil {
			return nil, err
		}
		more, err := verifyLog(ctx, l)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
		if share == 1 {
			figures = append(figures, Figure{Name: "record, 1000 at a time", Value: bulk, Unit: "events/s", Note: "durable"},
				Figure{Name: "bytes on disk", Value: float64(l.Counts().Bytes) / float64(l.Counts().Events), Unit: "B/event"})
		}
	}
	for _, format := range []audit.Format{audit.CSV, audit.JSONLines, audit.Parquet} {
		o.Progress(fmt.Sprintf("exporting %d events to %s", l.Size(), format))
		exported, err := exportLog(ctx, l, keys.Signer, filepath.Join(dir, "export"), format)
		if err != nil {
			return nil, err
		}
		figures = append(figures, exported...)
	}
	figures = append(figures, Figure{Name: fmt.Sprintf("record, %d writers, 1 at a time", auditWriters), Value: single, Unit: "events/s", Note: fmt.Sprintf("durable; %.1f events a commit", commits)})
	proof, err := timeProof(ctx, l)
	return append(figures, proof...), err
}

// auditSource makes events as a control plane does.
type auditSource struct {
	mu     sync.Mutex
	random interface{ Uint64() uint64 }
	n      int
}

func (s *auditSource) next() audit.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	now := time.UnixMilli(1_790_000_000_000 + int64(s.n)).UTC()
	var drawn [10]byte
	for i, v := 0, s.random.Uint64(); i < len(drawn); i, v = i+1, v>>6 {
		drawn[i] = byte(v)
	}
	drawn[8], drawn[9] = byte(s.n), byte(s.n>>8)
	e := audit.Event{ID: audit.NewID(now, drawn), Time: now, Kind: audit.AdmissionRefusal, Severity: audit.Info, Actor: fmt.Sprint("stream-", s.n%40),
		Subject: "admission", Action: "refuse", Outcome: audit.Refused, Reason: "rate", Count: uint64(1 + s.n%30), Details: []audit.Detail{{Key: "window", Value: "60 s"}}}
	if s.n%8 == 0 {
		e.Kind, e.Severity, e.Actor, e.Subject, e.Action, e.Outcome, e.Reason = audit.ConfigChange, audit.Notice, "operator-"+fmt.Sprint(s.n%7), "mix.queue_limit", "set", audit.OK, ""
		e.Details = []audit.Detail{{Key: "revision", Value: fmt.Sprint(s.n)}, {Key: "digest", Value: "0011223344556677"}}
	}
	return e
}

// recordAlone has writers record one event after the other, each when the one before
// is durable.
func recordAlone(ctx context.Context, l *ledger.Log, made *auditSource, d time.Duration) (perSecond, perCommit float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	before, begun := l.Counts(), time.Now()
	var writers sync.WaitGroup
	var once sync.Once
	for range auditWriters {
		writers.Go(func() {
			for ctx.Err() == nil {
				if e := l.Record(context.WithoutCancel(ctx), made.next()); e != nil {
					once.Do(func() { err = e })
					return
				}
			}
		})
	}
	writers.Wait()
	now := l.Counts()
	n := float64(now.Events - before.Events)
	return n / time.Since(begun).Seconds(), n / float64(max(1, now.Commits-before.Commits)), err
}

func recordMany(ctx context.Context, l *ledger.Log, made *auditSource, until int64) error {
	for l.Size() < until {
		events := make([]audit.Event, 1000)
		for i := range events {
			events[i] = made.next()
		}
		if err := l.Record(ctx, events...); err != nil {
			return err
		}
	}
	return nil
}

// verifyLog verifies the whole log on one processor.
func verifyLog(ctx context.Context, l *ledger.Log) ([]Figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := before.HeapInuse
	key, cpu := l.Key(), cpuTime()
	v, _, err := l.Store().Verify(ctx, &key, nil, func(e audit.Entry) error {
		if e.Seq%100_000 == 0 {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapInuse)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	spent := cpuTime() - cpu
	text := fmt.Sprintf("%d entries, %d segments", v.Entries, v.Segments)
	return []Figure{
		{Name: "verify, one core", Value: float64(v.Entries) / spent.Seconds(), Unit: "events/s", Bound: auditVerify, Note: text},
		{Name: "hash and open alone", Value: auditFloor(int(l.Counts().Bytes / l.Counts().Events)), Unit: "events/s"},
		{Name: "verify, memory", Value: float64(peak-before.HeapInuse) / (1 << 20), Unit: "MiB", Note: text},
	}, nil
}

// exportLog copies the whole log, signed and durable, on one processor, and removes the
// copy.
func exportLog(ctx context.Context, l *ledger.Log, signer *seal.Signer, dir string, format audit.Format) ([]Figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer os.RemoveAll(dir)
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := before.HeapInuse
	key, cpu, begun := l.Key(), cpuTime(), time.Now()
	x := &ledger.Export{Dir: dir, Format: format, Signer: signer, Now: begun, Done: func(audit.Part) {
		runtime.ReadMemStats(&after)
		peak = max(peak, after.HeapInuse)
	}}
	m, err := x.Run(ctx, l.Store(), &key)
	if err != nil {
		return nil, err
	}
	spent, took := cpuTime()-cpu, time.Since(begun)
	text := fmt.Sprintf("%d rows in %d parts, signed and durable after %.1f s", m.Rows(), len(m.Parts), took.Seconds())
	name := "export to " + string(format)
	return []Figure{
		{Name: name + ", one core", Value: float64(m.Rows()) / spent.Seconds(), Unit: "events/s", Bound: auditExport, Note: text},
		{Name: name + ", memory", Value: float64(peak-before.HeapInuse) / (1 << 20), Unit: "MiB", Note: text},
	}, nil
}

// auditFloor is how many events a second one core could verify that did nothing but
// hash and open them.
func auditFloor(size int) float64 {
	const n = 200_000
	b, sealed := make([]byte, size), make([]byte, 64<<10)
	aead := seal.NewAEAD(seal.AES256GCM, &seal.Key{})
	cpu := cpuTime()
	for range n {
		seal.SHA256(b)
		seal.SHA256(b[:65])
	}
	for range n * size / len(sealed) {
		aead.Open(sealed[:0], sealed, nil, 0)
	}
	return n / (cpuTime() - cpu).Seconds()
}

// timeProof measures the proof of an entry and its check.
func timeProof(ctx context.Context, l *ledger.Log) ([]Figure, error) {
	const proofs = 20
	key, size := l.Key(), l.Size()
	var making, checking time.Duration
	for i := range int64(proofs) {
		begun := time.Now()
		p, err := l.Store().Prove(ctx, &key, i*(size-1)/proofs)
		if err != nil {
			return nil, err
		}
		made := time.Now()
		if _, _, err := audit.CheckProof(&key, p.Entry, p.Proof); err != nil {
			return nil, err
		}
		making, checking = making+made.Sub(begun), checking+time.Since(made)
	}
	return []Figure{{Name: "prove an entry", Value: milliseconds(making) / proofs, Unit: "ms"}, {Name: "check a proof", Value: milliseconds(checking) / proofs, Unit: "ms"}}, nil
}

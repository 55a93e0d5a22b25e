package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// plane is a control process that may be away.
type plane struct {
	mu    sync.Mutex
	err   error
	tries int
	got   []audit.Event
	at    []time.Time
}

func (p *plane) send(_ context.Context, batch []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.err != nil {
		return p.err
	}
	events, _, err := ParseBatch(batch)
	for range events {
		p.at = append(p.at, time.Now())
	}
	p.got = append(p.got, events...)
	return err
}

func (p *plane) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func lost(n uint64) audit.Event {
	e := event(audit.Incident, 1<<40)
	e.Count = n
	return e
}

func openOutbox(t *testing.T, path string, p *plane) *Outbox {
	t.Helper()
	o, err := OpenOutbox(OutboxConfig{Path: path, Send: p.send, Lost: lost})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func running(t *testing.T, o *Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { o.Run(ctx) })
	return func() { cancel(); wait.Wait() }
}

// TestOutbox: events wait while no control process takes them, through a restart,
// and come when one does, each once; an incident overtakes, and does not wait for
// others.
func TestOutbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		away := &plane{err: errors.New("nobody answers")}
		o := openOutbox(t, path, away)
		stop := running(t, o)
		for i := range 300 {
			if err := o.Record(t.Context(), event(audit.KeyEvent, i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		if away.tries > 40 || away.tries < 10 || o.Figures().Waiting != 300 {
			t.Errorf("%d tries in 10 minutes, %+v", away.tries, o.Figures())
		}
		stop()
		o.Close() // as by kill -9: Record has brought everything to the disk

		back := &plane{}
		o = openOutbox(t, path, back)
		defer o.Close()
		incident := event(audit.Incident, 1000)
		o.Record(t.Context(), incident)
		begun := time.Now()
		defer running(t, o)()
		time.Sleep(time.Minute)
		if len(back.got) != 301 || back.got[0].ID != incident.ID || back.at[0].Sub(begun) > 100*time.Millisecond {
			t.Errorf("%d events, the first is %v after %v", len(back.got), back.got[0].Kind, back.at[0].Sub(begun))
		}
		if info, err := os.Stat(path); err != nil || info.Size() != 0 {
			t.Errorf("the file has %d bytes when nothing waits, %v", info.Size(), err)
		}
	})
}

// TestOutboxTorn: what a process wrote half when it ended is not there, what it
// acknowledged is.
func TestOutboxTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	p := &plane{}
	o := openOutbox(t, path, p)
	o.Record(t.Context(), event(audit.KeyEvent, 1), event(audit.KeyEvent, 2))
	o.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, append(bytes.Clone(whole), whole[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		o := openOutbox(t, path, p)
		if n := o.Figures().Waiting; n < 2 || n > 3 {
			t.Fatalf("%d events wait after a cut at %d", n, cut)
		}
		o.Close()
	}
}

// TestOutboxFull: the oldest that is no incident is given up, the file stays small,
// and how many were given up is told.
func TestOutboxFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	p := &plane{err: errors.New("nobody answers")}
	o := openOutbox(t, path, p)
	defer o.Close()
	o.file.file.Close() // the disk is not what is tested: a thousand syncs take long
	o.file = nil
	for i := range 3 {
		o.Record(t.Context(), event(audit.Incident, i))
	}
	for i := range outboxEvents {
		o.Record(t.Context(), event(audit.KeyEvent, 10+i))
	}
	if f := o.Figures(); f.Waiting != outboxEvents || f.Lost != 3 {
		t.Fatalf("%+v", f)
	}
	p.set(nil)
	o.Flush(t.Context())
	incidents, told := 0, uint64(0)
	for _, e := range p.got {
		if e.Kind == audit.Incident && e.Count > 1 {
			told += e.Count
		} else if e.Kind == audit.Incident {
			incidents++
		}
	}
	if incidents != 3 || told != 3 || len(p.got) != outboxEvents+1 {
		t.Errorf("%d events came, %d incidents, %d told as given up", len(p.got), incidents, told)
	}
}

// TestOutboxFile: the file does not grow without end while nobody takes events.
func TestOutboxFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	box, _, err := openBox(path)
	if err != nil {
		t.Fatal(err)
	}
	defer box.close()
	one := make([]byte, 60000)
	for range 3 * boxFileMost / len(one) {
		if err := box.add(AppendBatch(nil, one)); err != nil {
			t.Fatal(err)
		}
		if err := box.keep([NumLanes][]boxed{{{event: one}}}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > boxFileMost {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
}

// TestOutboxRefused: what is refused is given up and counted, and does not keep what
// comes after it.
func TestOutboxRefused(t *testing.T) {
	p := &plane{err: ErrRefused}
	o := openOutbox(t, "", p)
	o.Record(t.Context(), event(audit.KeyEvent, 1))
	o.Flush(t.Context())
	p.set(nil)
	o.Record(t.Context(), event(audit.KeyEvent, 2))
	o.Flush(t.Context())
	if f := o.Figures(); f.Refused != 1 || f.Sent != 1 || f.Waiting != 0 {
		t.Errorf("%+v", f)
	}
}

// TestParseBatch: a batch is taken whole or not at all.
func TestParseBatch(t *testing.T) {
	var b []byte
	for i := range 3 {
		e := event(audit.KeyEvent, i)
		b = AppendBatch(b, audit.Append(nil, &e))
	}
	whole := len(b) / 3
	for n := range len(b) {
		if events, _, err := ParseBatch(b[:n]); (err == nil) != (n%whole == 0) {
			t.Fatalf("%d bytes are %d events, %v", n, len(events), err)
		}
	}
	for range BatchEvents {
		b = append(b, b[:whole]...)
	}
	if _, _, err := ParseBatch(b); err == nil {
		t.Error("a batch of too many events is taken")
	}
}

func FuzzParseBatch(f *testing.F) {
	e := event(audit.Incident, 1)
	f.Add(AppendBatch(nil, audit.Append(nil, &e)))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, messages, err := ParseBatch(b)
		if err != nil {
			return
		}
		var again []byte
		for _, m := range messages {
			again = AppendBatch(again, m.Payload)
		}
		if !bytes.Equal(again, b) || len(events) != len(messages) {
			t.Errorf("%x comes out as %x", b, again)
		}
	})
}

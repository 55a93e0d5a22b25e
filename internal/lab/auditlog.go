package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
	"github.com/nyxnet/nyx/internal/engine/ledger"
	"github.com/nyxnet/nyx/internal/prng"
)

// auditLog is an audit log on this machine's disk, as a control node keeps it.
type auditLog struct {
	*ledger.Log
	dir  string
	keys ledger.FileKeys
	draw *prng.Stream
	made int
	now  func() time.Time // of its events; nil: they come ten a second
}

// newAuditLog makes an empty log in a directory that ends with the run.
func (r *Run) newAuditLog() (*auditLog, error) { return r.newAuditLogAt(nil) }

// newAuditLogAt makes one on a clock of its own.
func (r *Run) newAuditLogAt(now func() time.Time) (*auditLog, error) {
	dir, err := os.MkdirTemp("", "nyx-lab-audit-")
	if err != nil {
		return nil, err
	}
	l := &auditLog{dir: dir, now: now, draw: r.Source("audit").Stream("events")}
	if l.keys, err = ledger.OpenFileKeys(filepath.Join(dir, "keys"), true); err == nil {
		l.Log, err = ledger.Open(context.Background(), ledger.Config{Dir: dir, Origin: "nyx/lab/audit", Node: "control-1", Signer: l.keys.Signer, Wrapper: l.keys.Wrapper, Now: now})
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return l, nil
}

// remove ends the log with its files.
func (l *auditLog) remove() {
	l.Close()
	os.RemoveAll(l.dir)
}

// auditBegin is when the events of logs begin; they come ten a second.
var auditBegin = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

const auditGap = 100 * time.Millisecond

// event makes the next event: refusals and ends of sessions, counted by node, and
// now and then what an operator did.
func (l *auditLog) event() audit.Event {
	n := l.made
	l.made++
	var drawn [10]byte
	binary.BigEndian.PutUint64(drawn[:], l.draw.Uint64())
	binary.BigEndian.PutUint16(drawn[8:], uint16(n))
	at := auditBegin.Add(time.Duration(n) * auditGap)
	if l.now != nil {
		at = l.now().UTC()
	}
	e := audit.Event{ID: audit.NewID(at, drawn), Time: at, Kind: audit.SessionTerminate, Actor: fmt.Sprintf("stream-%d", n%40), Subject: "sessions", Action: "count", Count: uint64(1 + n%90),
		Details: []audit.Detail{{Key: "window", Value: "60 s"}}}
	switch {
	case n%97 == 0:
		e.Kind, e.Severity, e.Subject, e.Action = audit.Incident, audit.Critical, "queue", "alert"
	case n%20 == 0:
		e.Kind, e.Severity, e.Actor, e.Subject, e.Action, e.Count = audit.ConfigChange, audit.Notice, fmt.Sprintf("operator-%d", n%7), "mix.queue_limit", "set", 1
		e.Details = nil
	case n%3 == 0:
		e.Kind, e.Action, e.Outcome, e.Reason = audit.AdmissionRefusal, "refuse", audit.Refused, "rate"
	}
	return e
}

// record records so many events, a thousand at a time, and has them signed.
func (l *auditLog) record(many int) error {
	for many > 0 {
		events := make([]audit.Event, min(many, 1000))
		for i := range events {
			events[i] = l.event()
		}
		if err := l.Record(context.Background(), events...); err != nil {
			return err
		}
		many -= len(events)
	}
	_, err := l.Checkpoint(context.Background())
	return err
}

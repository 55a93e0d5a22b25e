package sql

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/audit"
)

// LimitMax bounds the entries of a page.
const LimitMax = 1000

// Query says what is wanted, in the order of time, equal times in the order of the
// log.
type Query struct {
	audit.Filter
	// Newest begins with the newest.
	Newest bool
	// Cursor is that of the page before; "" for the first.
	Cursor string
	// Limit is the most entries of the page; 0 for 100.
	Limit int
}

// Page is a part of what a query finds.
type Page struct {
	Entries []audit.Entry
	// Cursor leads to the next page; "" after the last.
	Cursor string
}

// Query finds a page.
func (x *Index) Query(ctx context.Context, q Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	if q.Limit < 1 || q.Limit > LimitMax {
		return Page{}, fmt.Errorf("index: a page of %d entries; use 1 to %d", q.Limit, LimitMax)
	}
	text, values, err := x.text(q)
	if err != nil {
		return Page{}, err
	}
	release, err := x.acquire(ctx)
	if err != nil {
		return Page{}, err
	}
	defer release()
	rows, err := x.db.QueryContext(ctx, text, values...)
	if err != nil {
		return Page{}, fmt.Errorf("index: %w", err)
	}
	defer rows.Close()
	var p Page
	for rows.Next() {
		var seq int64
		var b []byte
		if err := rows.Scan(&seq, &b); err != nil {
			return Page{}, fmt.Errorf("index: %w", err)
		}
		if len(p.Entries) == q.Limit { // there is one more
			last := &p.Entries[q.Limit-1]
			p.Cursor = cursor(q.Newest, last.Event.Time.UnixMilli(), last.Seq)
			break
		}
		e, err := audit.Parse(b)
		if err != nil {
			return Page{}, fmt.Errorf("%w: entry %d: %w; build the index anew: nyx audit replay", ErrDiffers, seq, err)
		}
		p.Entries = append(p.Entries, audit.Entry{Seq: seq, Event: e})
	}
	if err := rows.Err(); err != nil {
		return Page{}, fmt.Errorf("index: %w", err)
	}
	return p, nil
}

// Explain returns how the database finds a page, in its own words, one step a line.
func (x *Index) Explain(ctx context.Context, q Query) (plan string, err error) {
	text, values, err := x.text(q)
	if err != nil {
		return "", err
	}
	release, err := x.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	tx, err := x.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	defer tx.Rollback()
	var next int64 // reading has SQLite look whether its picture of the schema still holds, which explaining has not
	if err := tx.QueryRowContext(ctx, "SELECT next FROM audit_position").Scan(&next); err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	explain, row, step := "EXPLAIN QUERY PLAN ", make([]any, 4), ""
	if x.postgres {
		explain, row = "EXPLAIN ", make([]any, 1)
	}
	for i := range row {
		row[i] = new(any)
	}
	row[len(row)-1] = &step
	rows, err := tx.QueryContext(ctx, explain+text, values...)
	if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(row...); err != nil {
			return "", fmt.Errorf("index: %w", err)
		}
		plan += step + "\n"
	}
	return plan, rows.Err()
}

// text is the statement of a query. What the caller gave is in the values alone,
// but for the severity, a number, which the partial index must see.
func (x *Index) text(q Query) (text string, values []any, err error) {
	var where []string
	add := func(condition string, v any) {
		values = append(values, v)
		where = append(where, condition+" "+x.bind(len(values)))
	}
	if !q.From.IsZero() {
		add("time >=", milliseconds(q.From))
	}
	if !q.To.IsZero() {
		add("time <", milliseconds(q.To))
	}
	if q.Kind != 0 {
		add("kind =", int16(q.Kind))
	}
	if q.Severity > 0 {
		where = append(where, fmt.Sprintf("severity >= %d", q.Severity))
	}
	for _, c := range []struct{ name, value string }{{"actor", q.Actor}, {"subject", q.Subject}, {"action", q.Action}} {
		if c.value != "" {
			add(c.name+" =", c.value)
		}
	}
	if q.Org != nil {
		add("org =", *q.Org)
	}
	if q.Outcome != nil {
		add("outcome =", int16(*q.Outcome))
	}
	if q.Sensitivity != nil {
		add("sensitivity <=", int16(*q.Sensitivity))
	}
	order, after := "ASC", ">"
	if q.Newest {
		order, after = "DESC", "<"
	}
	if q.Cursor != "" {
		at, seq, err := parseCursor(q.Cursor, q.Newest)
		if err != nil {
			return "", nil, err
		}
		values = append(values, at, seq)
		where = append(where, fmt.Sprintf("(time, seq) %s (%s, %s)", after, x.bind(len(values)-1), x.bind(len(values))))
	}
	text = "SELECT seq, event FROM audit_events"
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	return fmt.Sprintf("%s ORDER BY time %s, seq %s LIMIT %d", text, order, order, q.Limit+1), values, nil
}

// milliseconds rounds up: what is not before a time is not before its next whole
// millisecond, in which events count.
func milliseconds(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}

// A cursor is a direction, a time and a place.
const cursorSize = 1 + 8 + 8

func cursor(newest bool, at, seq int64) string {
	b := []byte{'+'}
	if newest {
		b[0] = '-'
	}
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(seq)))
}

func parseCursor(s string, newest bool) (at, seq int64, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != cursorSize {
		return 0, 0, ErrCursor
	}
	at, seq = int64(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint64(b[9:]))
	if cursor(newest, at, seq) != s {
		return 0, 0, ErrCursor
	}
	return at, seq, nil
}

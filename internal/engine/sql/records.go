package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/nyxnet/nyx/internal/control"
	"github.com/nyxnet/nyx/internal/control/records"
)

// Records are the session records of a fleet in a database: a records.Store. Every
// change is one statement, which is whole or not at all, and compares with what the
// row is at that moment, so that no transaction holds a lock over a round trip.
type Records struct{ *database }

// recordsSchema has the fields of control.SessionRecord and no other. Records of
// which the time is over are found by the index.
const recordsSchema = `
CREATE TABLE IF NOT EXISTS session_records (
	token BYTES PRIMARY KEY, version BIGINT NOT NULL, expires BIGINT NOT NULL, class SMALLINT NOT NULL);
CREATE INDEX IF NOT EXISTS session_records_expires ON session_records (expires)`

const recordColumns = 4

// recordsMost is how many records one statement takes; the last parameter is a time.
const recordsMost = 500

// OpenRecords opens the records in a file of SQLite, which is made if it is not
// there, or at a URL of PostgreSQL or CockroachDB.
func OpenRecords(ctx context.Context, where string) (*Records, error) {
	d, err := openDatabase(ctx, "session records", where, recordsSchema)
	if err != nil {
		return nil, err
	}
	return &Records{d}, nil
}

// Get implements records.Store.
func (s *Records) Get(ctx context.Context, token control.TokenHash, unix int64) (control.SessionRecord, error) {
	release, err := s.acquire(ctx)
	if err != nil {
		return control.SessionRecord{}, err
	}
	defer release()
	r := control.SessionRecord{Token: token}
	err = s.db.QueryRowContext(ctx, "SELECT version, expires, class FROM session_records WHERE token = "+s.bind(1)+" AND expires > "+s.bind(2), token[:], unix).Scan(&r.Version, &r.Expires, &r.Class)
	if errors.Is(err, sql.ErrNoRows) {
		return control.SessionRecord{}, records.ErrNone
	}
	if err != nil {
		return control.SessionRecord{}, fmt.Errorf("session records: %w", err)
	}
	return r, nil
}

// Create implements records.Store. A row that is there as another record and not over
// is left alone and not counted among those changed.
func (s *Records) Create(ctx context.Context, rs []control.SessionRecord, unix int64) (duplicates int, err error) {
	for len(rs) > 0 {
		some := rs[:min(len(rs), recordsMost)]
		rs = rs[len(some):]
		values := make([]any, 0, len(some)*recordColumns+1)
		for i := range some {
			r := &some[i]
			values = append(values, r.Token[:], int64(r.Version), r.Expires, int16(r.Class))
		}
		values = append(values, unix)
		changed, err := s.exec(ctx, "INSERT INTO session_records (token, version, expires, class) VALUES "+s.rows(len(some), recordColumns, 1)+
			" ON CONFLICT (token) DO UPDATE SET version = excluded.version, expires = excluded.expires, class = excluded.class"+
			" WHERE session_records.expires <= "+s.bind(len(values))+
			" OR (session_records.version = excluded.version AND session_records.expires = excluded.expires AND session_records.class = excluded.class)", values...)
		if err != nil {
			return duplicates, err
		}
		duplicates += len(some) - int(changed)
	}
	return duplicates, nil
}

// Swap implements records.Store.
func (s *Records) Swap(ctx context.Context, was, next control.SessionRecord) error {
	if was.Token != next.Token {
		return records.ErrChanged
	}
	var values []any
	bind := func(v any) string {
		values = append(values, v)
		return s.bind(len(values))
	}
	changed, err := s.exec(ctx, "UPDATE session_records SET version = "+bind(int64(next.Version))+", expires = "+bind(next.Expires)+", class = "+bind(int16(next.Class))+
		" WHERE token = "+bind(was.Token[:])+" AND version = "+bind(int64(was.Version))+" AND expires = "+bind(was.Expires)+" AND class = "+bind(int16(was.Class)), values...)
	if err == nil && changed == 0 {
		err = records.ErrChanged
	}
	return err
}

// Remove implements records.Store.
func (s *Records) Remove(ctx context.Context, tokens []control.TokenHash) error {
	for len(tokens) > 0 {
		some := tokens[:min(len(tokens), recordsMost)]
		tokens = tokens[len(some):]
		values := make([]any, len(some))
		for i := range some {
			values[i] = some[i][:]
		}
		if _, err := s.exec(ctx, "DELETE FROM session_records WHERE token IN "+s.rows(1, len(some), 1), values...); err != nil {
			return err
		}
	}
	return nil
}

// Expire implements records.Store.
func (s *Records) Expire(ctx context.Context, unix int64, most int) (int, error) {
	n, err := s.exec(ctx, "DELETE FROM session_records WHERE token IN (SELECT token FROM session_records WHERE expires <= "+s.bind(1)+" ORDER BY expires LIMIT "+s.bind(2)+")", unix, most)
	return int(n), err
}

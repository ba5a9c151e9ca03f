package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/receiver"
)

// table describes the table of a log.
type table[T any] struct {
	name  string
	work  receiver.Work       // whose lease fences its rows; empty: none
	when  func(T) time.Time   // a row's time
	own   bool                // rows have their own time when they are appended
	stamp func(*T, time.Time) // sets a row's time
	host  func(T) string      // for searches
	valid func(T) bool        // nil: all rows
	days  int                 // after how many days rows are deleted; 0: never
}

func rejectionTable() table[receiver.Rejection] {
	return table[receiver.Rejection]{
		name: "rejections", days: 14,
		when:  func(r receiver.Rejection) time.Time { return r.At },
		stamp: func(r *receiver.Rejection, at time.Time) { r.At = at },
		host:  func(r receiver.Rejection) string { return string(r.Host) },
	}
}

func alertTable() table[receiver.Alert] {
	return table[receiver.Alert]{
		name: "alerts", work: receiver.Checking, own: true,
		when:  func(a receiver.Alert) time.Time { return a.At },
		stamp: func(a *receiver.Alert, at time.Time) { a.At = at },
		host:  func(a receiver.Alert) string { return a.Host },
	}
}

func silenceTable() table[receiver.Silence] {
	return table[receiver.Silence]{
		name:  "silences",
		when:  func(s receiver.Silence) time.Time { return s.At },
		stamp: func(s *receiver.Silence, at time.Time) { s.At = at },
		host:  func(s receiver.Silence) string { return s.Host },
		valid: func(s receiver.Silence) bool { return s.Host != "" && s.Symptom != "" },
	}
}

// log is a log with few writers. A transaction lock lets one of them append at a time, so ids
// are in the order of commits, and times do not decrease.
type log[T any] struct {
	table[T]
	db *db
}

func newLog[T any](d *db, t table[T]) *log[T] { return &log[T]{t, d} }

// lockClass is the class of the advisory locks of logs.
const lockClass = 4900

// Append appends rows in one transaction.
func (l *log[T]) Append(all []T) error {
	return l.append(all, func(ctx context.Context, c conn) (err error) {
		var own *time.Time
		if l.own {
			t := l.when(all[0])
			own = &t
		}
		var at time.Time
		err = c.QueryRow(ctx, "SELECT greatest(coalesce($1::timestamptz, clock_timestamp()), max(at) + interval '1 microsecond') FROM "+
			l.name, own).Scan(&at)
		for i := range all {
			l.stamp(&all[i], at.UTC())
		}
		return err
	})
}

// Copy appends rows with their own times in one transaction.
func (l *log[T]) Copy(all []T) error {
	return l.append(all, func(context.Context, conn) error { return nil })
}

// append appends rows after their times were set.
func (l *log[T]) append(all []T, set func(context.Context, conn) error) error {
	if len(all) == 0 {
		return nil
	}
	err := l.db.tx(l.work, func(ctx context.Context, c conn) error {
		if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1::int, hashtext($2))", lockClass, l.name); err != nil {
			return err
		}
		if err := set(ctx, c); err != nil {
			return err
		}
		var at []time.Time
		var hosts, bodies []string
		for _, r := range all {
			body, err := json.Marshal(r)
			if err != nil {
				return err
			}
			at, hosts, bodies = append(at, l.when(r)), append(hosts, l.host(r)), append(bodies, string(body))
		}
		_, err := c.Exec(ctx, "INSERT INTO "+l.name+" (at, host, body) SELECT at, host, body::json"+
			" FROM unnest($1::timestamptz[], $2::text[], $3::text[]) WITH ORDINALITY AS t (at, host, body, n) ORDER BY n", at, hosts, bodies)
		if err == nil && l.days > 0 {
			_, err = c.Exec(ctx, "DELETE FROM "+l.name+" WHERE at < now() - make_interval(days => $1::int)", l.days)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", l.name, err)
	}
	return nil
}

// mark is a row's place.
type mark struct {
	at time.Time
	id int64
}

func (m mark) String() string { return fmt.Sprintf("%d.%d", m.at.UnixMicro(), m.id) }

func parseMark(s string) (m mark, err error) {
	at, id, _ := strings.Cut(s, ".")
	micros, err1 := strconv.ParseInt(at, 10, 64)
	if m.id, err = strconv.ParseInt(id, 10, 64); errors.Join(err, err1) != nil {
		return m, receiver.ErrCursor
	}
	m.at = time.UnixMicro(micros)
	return m, nil
}

// row is a decoded row with its place.
type row[T any] struct {
	mark
	value T
	ok    bool // it could be decoded
}

// page reads rows in an order. where has the parameters from $2 on; $1 is the limit.
func (l *log[T]) page(where string, args ...any) (page []row[T], err error) {
	err = l.db.do(context.Background(), func(ctx context.Context, c conn) error {
		page = nil
		found, err := c.Query(ctx, "SELECT at, id, body::text FROM "+l.name+" WHERE "+where+" LIMIT $1", append([]any{pageRows}, args...)...)
		if err != nil {
			return fmt.Errorf("read %s: %w", l.name, err)
		}
		var m mark
		var body string
		_, err = pgx.ForEachRow(found, []any{&m.at, &m.id, &body}, func() error {
			r := row[T]{mark: mark{m.at.UTC(), m.id}}
			r.ok = json.Unmarshal([]byte(body), &r.value) == nil && (l.valid == nil || l.valid(r.value))
			page = append(page, r)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", l.name, err)
		}
		return nil
	})
	return page, err
}

// Since yields rows page by page.
func (l *log[T]) Since(from time.Time) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for last := (mark{at: from}); ; {
			page, err := l.page("at >= $2 AND (at, id) > ($2, $3) ORDER BY at, id", last.at, last.id)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, r := range page {
				if r.ok && !yield(r.value, nil) {
					return
				}
			}
			if len(page) < pageRows {
				return
			}
			last = page[len(page)-1].mark
		}
	}
}

// Before yields rows that match, newest first. These logs are searched by host and time only.
func (l *log[T]) Before(q receiver.Query) iter.Seq2[receiver.Found[T], error] {
	return func(yield func(receiver.Found[T], error) bool) {
		last := mark{at: time.Now().AddDate(1000, 0, 0)}
		if !q.Until.IsZero() {
			last = mark{at: q.Until.Add(time.Microsecond)}
		}
		if q.Cursor != "" {
			m, err := parseMark(q.Cursor)
			if err != nil {
				yield(receiver.Found[T]{}, err)
				return
			}
			last = m
		}
		for {
			page, err := l.page("at <= $2 AND (at, id) < ($2, $3) AND ($4 = '' OR host = $4) ORDER BY at DESC, id DESC", last.at, last.id, q.Host)
			if err != nil {
				yield(receiver.Found[T]{}, err)
				return
			}
			for _, r := range page {
				if !yield(receiver.Found[T]{Row: r.value, At: r.at, Match: r.ok, Cursor: r.String()}, nil) {
					return
				}
			}
			if len(page) < pageRows {
				return
			}
			last = page[len(page)-1].mark
		}
	}
}

// Last returns the time of the newest row.
func (l *log[T]) Last() (time.Time, bool, error) {
	for f, err := range l.Before(receiver.Query{}) {
		return f.At, err == nil, err
	}
	return time.Time{}, false, nil
}

// Healthy tests that the database can be written.
func (l *log[T]) Healthy() error { return l.db.usable() }

// Open does nothing: there is nothing to repair.
func (l *log[T]) Open() error { return nil }

// Close does nothing.
func (l *log[T]) Close() error { return nil }

// Follow returns a reader by id.
func (l *log[T]) Follow(from time.Time) receiver.Follower[T] { return &follower[T]{log: l, from: from} }

type follower[T any] struct {
	log   *log[T]
	from  time.Time
	begun bool
	id    int64
}

// Read reads the rows since the last call.
func (f *follower[T]) Read(begin func(), add func(T)) error {
	if !f.begun {
		begin()
		f.begun = true
	}
	for {
		page, err := f.log.page("at >= $2 AND id > $3 ORDER BY id", f.from, f.id)
		if err != nil {
			return err
		}
		for _, r := range page {
			if f.id = r.id; r.ok {
				add(r.value)
			}
		}
		if len(page) < pageRows {
			return nil
		}
	}
}

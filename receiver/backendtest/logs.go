package backendtest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
)

// rows: times never decrease, windows are complete, and rows survive a restart.
func rows(open Maker) error {
	b := open()
	before := time.Now().Add(-time.Second)
	for i := range 10 {
		r := []receiver.Silence{{V: 1, Host: "lab-a", Symptom: fmt.Sprint("s", i)}, {V: 1, Host: "lab-b", Symptom: fmt.Sprint("s", i)}}
		if err := b.Silences.Append(r); err != nil {
			return err
		}
		if r[0].At.Before(before) || r[1].At.Before(r[0].At) {
			return fmt.Errorf("rows got the times %s and %s", r[0].At, r[1].At)
		}
	}
	if err := errors.Join(b.Silences.Healthy(), b.Silences.Close()); err != nil {
		return err
	}
	b = open()
	n := 0
	var last time.Time
	for s, err := range b.Silences.Since(before) {
		if err != nil {
			return err
		}
		if s.At.Before(last) || s.Symptom != fmt.Sprint("s", n/2) {
			return fmt.Errorf("row %d is %+v", n, s)
		}
		last, n = s.At, n+1
	}
	at, ok, err := b.Silences.Last()
	if err != nil || !ok || !at.Equal(last) || n != 20 {
		return fmt.Errorf("%d rows, the last at %s, not %s: %v, %w", n, last, at, ok, err)
	}
	for s, err := range b.Silences.Since(last.Add(time.Second)) {
		return fmt.Errorf("a row after the last one: %+v, %w", s, err)
	}
	// Alerts have their own time.
	own := before.UTC().Truncate(time.Hour)
	if err := b.Alerts.Append([]receiver.Alert{{V: 1, At: own, Host: "lab-a", State: receiver.Firing}}); err != nil {
		return err
	}
	if at, _, err := b.Alerts.Last(); err != nil || !at.Equal(own) {
		return fmt.Errorf("an alert got the time %s, %w", at, err)
	}
	return b.Alerts.Close()
}

// search: by host, episode and prefix, newest first, continued from a cursor.
func search(open Maker) error {
	b := open()
	digest := func(i int) ident.Digest { return ident.Digest(fmt.Sprintf("%064x", i)) }
	var all []receiver.Entry
	for i := range 300 {
		all = append(all, receiver.Entry{
			Host: ident.Host(fmt.Sprint("lab-", i%3)), Episode: ident.EpisodeID(fmt.Sprintf("01ARZ3NDEKTSV4RRFFQ69G5%03d", i)),
			Digest: digest(i), Size: int64(i), Commit: commit,
		})
	}
	if err := b.Index.Append(all); err != nil {
		return err
	}
	find := func(q receiver.Query, most int) (got []int, cursor string, err error) {
		for f, err := range b.Index.Before(q) {
			if err != nil {
				return nil, "", err
			}
			if f.Match {
				got = append(got, int(f.Row.Size))
			}
			if cursor = f.Cursor; len(got) == most {
				break
			}
		}
		return got, cursor, nil
	}
	for _, c := range []struct {
		q     receiver.Query
		first int
		n     int
	}{
		{receiver.Query{}, 299, 300},
		{receiver.Query{Host: "lab-1"}, 298, 100},
		{receiver.Query{Episode: all[7].Episode}, 7, 1},
		{receiver.Query{Prefix: string(digest(9))[:64]}, 9, 1},
		{receiver.Query{Prefix: "aaaaaa", Host: "lab-2"}, 299, 100},
		{receiver.Query{Host: "lab-9"}, 0, 0},
		{receiver.Query{Until: all[0].ReceivedAt.Add(-time.Hour)}, 0, 0},
	} {
		got, _, err := find(c.q, 1000)
		if err != nil || len(got) != c.n || c.n > 0 && got[0] != c.first {
			return fmt.Errorf("%+v finds %d, %w", c.q, len(got), err)
		}
	}
	seen, q := 0, receiver.Query{Host: "lab-0"}
	for {
		got, cursor, err := find(q, 7)
		if err != nil {
			return err
		}
		if seen += len(got); cursor == "" || len(got) == 0 {
			break
		}
		q.Cursor = cursor
	}
	if seen != 100 {
		return fmt.Errorf("page by page %d rows are found", seen)
	}
	for _, err := range b.Index.Before(receiver.Query{Cursor: "no cursor"}) {
		if !errors.Is(err, receiver.ErrCursor) {
			return fmt.Errorf("a foreign cursor: %w", err)
		}
	}
	return b.Index.Close()
}

// follow: each row once, and begin if earlier rows may be gone.
func follow(open Maker) error {
	b, reader := open(), open()
	f := reader.Rejections.Follow(time.Time{})
	begun, got := 0, uint64(0)
	read := func() error {
		return f.Read(func() { begun++; got = 0 }, func(r receiver.Rejection) { got += r.Count })
	}
	for i := range 5 {
		if err := errors.Join(read(), b.Rejections.Append([]receiver.Rejection{{V: 1, Count: 1}}), read()); err != nil {
			return err
		}
		if got != uint64(i+1) || begun > 1 {
			return fmt.Errorf("after %d rows: %d, begun %d times", i+1, got, begun)
		}
	}
	return b.Rejections.Close()
}

func documents(open Maker) error {
	b := open()
	name := receiver.HealthReports + "lab-a.json"
	if _, err := b.Docs.Load(name, 100); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no document: %w", err)
	}
	versions := map[string]bool{}
	for i := range 5 {
		text := strings.Repeat("x", i)
		if err := errors.Join(b.Docs.Save(name, []byte(text)), b.Docs.Writable(name)); err != nil {
			return err
		}
		d, err := open().Docs.Stat(name)
		if err != nil || versions[d.Version] || d.Size != int64(i) {
			return fmt.Errorf("%+v, %w", d, err)
		}
		versions[d.Version] = true
		if got, err := open().Docs.Load(name, 100); err != nil || string(got) != text {
			return fmt.Errorf("%q, %w", got, err)
		}
	}
	if _, err := b.Docs.Load(name, 3); err == nil {
		return errors.New("a document over the limit was returned")
	}
	doc, err := b.Docs.Stat(name)
	if all, err2 := b.Docs.All(receiver.HealthReports); err != nil || err2 != nil || len(all) != 1 || all[name] != doc {
		return fmt.Errorf("all are %+v, want %+v, %w, %w", all, doc, err, err2)
	}
	return errors.Join(b.Docs.Remove(name), b.Docs.Remove(name))
}

func leases(open Maker) error {
	b := open()
	s, err := b.Serve()
	if err != nil {
		return err
	}
	if _, err := open().Serve(); err != nil && !errors.Is(err, receiver.ErrLeased) {
		return fmt.Errorf("a second one that serves: %w", err)
	}
	check, err := b.Lease(receiver.Checking)
	if err != nil {
		return err
	}
	if err := errors.Join(check.Close(), s.Close()); err != nil {
		return err
	}
	again, err := b.Lease(receiver.Checking)
	if err != nil {
		return err
	}
	return again.Close()
}

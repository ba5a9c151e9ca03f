package backendtest

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/receiver"
)

// copies: rows of another backend keep their times, the index has each of them once, and rows
// that are appended later come after them.
func copies(open Maker) error {
	b := open()
	at := time.Now().UTC().Add(-48 * time.Hour).Truncate(time.Second)
	all := make([]receiver.Entry, 0, len(uploads())+1)
	for i, u := range uploads() {
		all = append(all, receiver.Entry{
			V: 1, Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit,
			ReceivedAt: at.Add(time.Duration(i) * time.Hour),
		})
	}
	gone := all[0]
	gone.ReceivedAt, gone.Archived = at.Add(10*time.Hour), true
	all = append(all, gone)
	if err := b.Index.Copy(append([]receiver.Entry(nil), all...)); err != nil {
		return err
	}
	i := 0
	for e, err := range b.Index.Since(time.Time{}) {
		if err != nil || i == len(all) || e != all[i] {
			return fmt.Errorf("row %d is %+v: %w", i, e, err)
		}
		i++
	}
	silences := []receiver.Silence{{V: 1, At: at, Host: "lab-a", Symptom: "one"}, {V: 1, At: at, Host: "lab-a", Symptom: "two"}}
	if err := errors.Join(b.Silences.Copy(silences[:1]), b.Silences.Copy(silences[1:])); err != nil || i != len(all) {
		return fmt.Errorf("%d rows were copied: %w", i, err)
	}
	last := []receiver.Silence{{V: 1, Host: "lab-a", Symptom: "three"}}
	if err := b.Silences.Append(last); err != nil {
		return err
	}
	i = 0
	for s, err := range b.Silences.Since(at) {
		if err != nil || i < 2 && s != silences[i] || i == 2 && !s.At.After(at) {
			return fmt.Errorf("silence %d is %+v: %w", i, s, err)
		}
		i++
	}
	if err := errors.Join(b.Index.Close(), b.Silences.Close()); err != nil || i != 3 {
		return fmt.Errorf("%d silences: %w", i, err)
	}
	s, err := open().Serve()
	if err != nil {
		return err
	}
	_, found, err := s.Lookup(gone.Host, gone.Episode)
	if err == nil && !found {
		err = fmt.Errorf("%v was archived and is unknown", gone.Key())
	}
	return errors.Join(err, s.Close())
}

// replacements: a replacement of another version than the present one changes nothing.
func replacements(open Maker) error {
	b := open()
	for _, want := range []string{"first", "second"} {
		doc, err := b.Docs.Stat(receiver.NotesDoc)
		if err != nil && (want != "first" || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		if err := b.Docs.Replace(receiver.NotesDoc, doc.Version, []byte(want)); err != nil {
			return fmt.Errorf("replace a document by %q: %w", want, err)
		}
		for _, version := range []string{doc.Version, "0"} {
			if err := b.Docs.Replace(receiver.NotesDoc, version, []byte("late")); !errors.Is(err, receiver.ErrChanged) {
				return fmt.Errorf("replace version %q of a document: %w", version, err)
			}
		}
		if have, err := b.Docs.Load(receiver.NotesDoc, 100); string(have) != want || err != nil {
			return fmt.Errorf("the document is %q, want %q: %w", have, want, err)
		}
	}
	return nil
}

package store

import (
	"errors"
	"io"

	"cis490/receiver"
)

// ReceiveTogether stores new uploads with one commit.
func (s *Store) ReceiveTogether(uploads []receiver.Upload, body func(receiver.Upload) io.Reader) []error {
	b := &commit{}
	errs := make([]error, len(uploads))
	at := make([]int, len(uploads)) // in the commit
	for i, u := range uploads {
		it := newStaged(u)
		it.epoch = s.commits.epoch()
		errs[i] = s.stage(it, body(u))
		if errs[i] == nil {
			defer s.keys.Lock(it.row.Key())()
			var stored bool
			if _, stored, errs[i] = s.linkNew(it); stored {
				errs[i] = errors.Join(errs[i], errors.New("stored already"))
			}
		}
		if errs[i] != nil {
			errs[i] = errors.Join(errs[i], s.discard(it.name))
			continue
		}
		at[i] = len(b.uploads)
		b.uploads = append(b.uploads, &it)
	}
	s.commits.run(b)
	for i := range uploads {
		if errs[i] == nil {
			_, errs[i] = s.published(*b.uploads[at[i]], b.err[at[i]])
		}
	}
	return errs
}

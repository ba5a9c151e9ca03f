package contacts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver"
)

// listed is a health report that existed when List was called.
type listed struct {
	host ident.Host
	doc  receiver.Doc
}

// List returns an entity tag, which changes with any health report, and a function that
// writes all reports as one JSON document. That function holds only a few files in
// memory. Each version of a file is validated once.
func (s *Snapshots) List() (tag string, write func(io.Writer) error, err error) {
	docs, err := AllSnapshots(s.docs)
	if err != nil {
		return "", nil, err
	}
	all := make([]listed, 0, len(docs))
	sum := sha256.New()
	for _, h := range slices.Sorted(maps.Keys(docs)) {
		_, _ = fmt.Fprintf(sum, "%s %s\n", h, docs[h].Version) // never fails
		all = append(all, listed{h, docs[h]})
	}
	tag = `"` + hex.EncodeToString(sum.Sum(nil)[:16]) + `"`
	return tag, func(w io.Writer) error { return s.write(w, all) }, nil
}

// write writes the document. It lists the hosts whose report cannot be read.
func (s *Snapshots) write(w io.Writer, all []listed) error {
	if _, err := io.WriteString(w, `{"hosts":[`); err != nil {
		return err
	}
	var unreadable []ident.Host
	comma := ""
	for l, b := range s.read(all) {
		if b = bytes.TrimSpace(b); !s.valid(l, b) {
			unreadable = append(unreadable, l.host)
			continue
		}
		if _, err := io.WriteString(w, comma); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		comma = ","
	}
	end := "]"
	if len(unreadable) > 0 {
		names, err := json.Marshal(unreadable)
		if err != nil {
			return err
		}
		end += `,"unreadable":` + string(names)
	}
	_, err := io.WriteString(w, end+"}\n")
	return err
}

// readAhead is how many files are read ahead of the writer.
const readAhead = 16

// read yields the files' contents in order, and reads ahead meanwhile. For a file that
// cannot be read it yields nil.
func (s *Snapshots) read(all []listed) iter.Seq2[listed, []byte] {
	return func(yield func(listed, []byte) bool) {
		content, enough := make(chan []byte, readAhead), make(chan struct{})
		defer close(enough)
		go func() {
			for _, l := range all {
				select {
				case content <- s.load(l):
				case <-enough:
					return
				}
			}
		}()
		for _, l := range all {
			if !yield(l, <-content) {
				return
			}
		}
	}
}

// load returns a document's content, or nil if it cannot be read.
func (s *Snapshots) load(l listed) []byte {
	b, err := s.docs.Load(reportName(l.host), maxSnapshot)
	if err != nil {
		return nil
	}
	return b
}

// valid reports whether content is a health report.
func (s *Snapshots) valid(l listed, content []byte) bool {
	s.goodMu.Lock()
	known := s.good[l.host]
	s.goodMu.Unlock()
	if known != "" && known == l.doc.Version && l.doc.Size == int64(len(content)+1) {
		return true
	}
	// An older version of the receiver stored the sender's bytes.
	if wire.Decode(content, &Snapshot{}) != nil || !bytes.Equal(plain.Escape(content), content) {
		return false
	}
	s.markGood(l.host, l.doc)
	return true
}

func (s *Snapshots) markGood(h ident.Host, d receiver.Doc) {
	s.goodMu.Lock()
	defer s.goodMu.Unlock()
	s.good[h] = d.Version
}

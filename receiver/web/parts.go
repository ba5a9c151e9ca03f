package web

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"cis490/internal/plain"
	"cis490/internal/wire"
)

// marksHeader is the request header with which a live page asks for its changed parts: the
// marks of the parts that it shows, separated by spaces.
const marksHeader = "Cis490-Marks"

// part is a piece of a page that a live page replaces when it changed.
type part struct {
	ID   string `json:"id"`
	Mark string `json:"mark"`
	HTML string `json:"html"`
	row  bool
}

// changedParts is what a live page gets. Order lists its table rows; a page drops those
// that it does not list.
type changedParts struct {
	Title string   `json:"title"`
	Now   int64    `json:"now"` // milliseconds since 1970
	Parts []part   `json:"parts"`
	Order []string `json:"order"`
}

// relativeTime matches the text of a time that the page itself keeps up to date.
var relativeTime = regexp.MustCompile(`(<time data-[^>]*>)[^<]*`)

// Part renders a template as an element that can be replaced by itself. Its mark is a hash
// of its content without the relative times.
func (f *frame) Part(tag, id, name string, data any) (template.HTML, error) {
	var b bytes.Buffer
	if err := f.templates.ExecuteTemplate(&b, name, data); err != nil {
		return "", err
	}
	content := plain.Escape(b.Bytes())
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails, as below
	_, _ = h.Write(relativeTime.ReplaceAll(content, []byte("$1")))
	mark := strconv.FormatUint(uint64(h.Sum32()), 36)
	html := fmt.Sprintf(`<%s id="%s" data-live="%s">%s</%s>`, tag, template.HTMLEscapeString(id), mark, content, tag)
	f.parts = append(f.parts, part{id, mark, html, tag == "tr"})
	return template.HTML(html), nil //nolint:gosec // its content and id are escaped
}

// sendParts sends the parts whose marks the page does not have; 204 if there is none.
func (s *Site) sendParts(w http.ResponseWriter, r *http.Request, f *frame) error {
	has := map[string]bool{}
	for m := range strings.FieldsSeq(r.Header.Get(marksHeader)) {
		has[m] = true
	}
	out := changedParts{Title: f.FullTitle(), Now: f.Now.UnixMilli(), Parts: []part{}, Order: []string{}}
	for _, p := range f.parts {
		if p.row {
			out.Order = append(out.Order, p.ID)
		}
		if !has[p.Mark] {
			out.Parts = append(out.Parts, p)
		}
	}
	if len(out.Parts) == 0 && len(has) == len(f.parts) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	b, err := wire.Encode(out)
	if err != nil {
		return fmt.Errorf("encode the changed parts: %w", err)
	}
	s.send(w, r, http.StatusOK, wire.ContentTypeJSON, b)
	return nil
}

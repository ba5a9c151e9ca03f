package web

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/cluster"
)

// Bounds of what operators write about a host, in characters and hosts.
const (
	maxTags      = 10
	maxRoom      = 40
	maxNote      = 500
	maxNotesDoc  = 16 << 20 // bytes
	maxNotedHost = 10_000
)

// tagRE is the grammar of a tag.
var tagRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// hostNotes are what operators write about a host. The host neither knows nor sets them.
type hostNotes struct {
	Tags []string `json:"tags,omitempty"`
	Room string   `json:"room,omitempty"`
	Note string   `json:"note,omitempty"`
}

// TagList returns the tags as the form shows them.
func (n hostNotes) TagList() string { return strings.Join(n.Tags, " ") }

// Digest identifies the notes in a form.
func (n hostNotes) Digest() string { return cluster.Digest(n) }

// parseNotes reads a form.
func parseNotes(get func(string) string) (hostNotes, error) {
	n := hostNotes{
		Room: check.Sanitize(strings.TrimSpace(get("room")), maxRoom),
		Note: check.Sanitize(strings.TrimSpace(get("note")), maxNote),
	}
	split := func(r rune) bool { return r == ' ' || r == ',' }
	n.Tags = slices.Compact(slices.Sorted(slices.Values(strings.FieldsFunc(strings.ToLower(get("tags")), split))))
	if len(n.Tags) > maxTags {
		return n, wire.NewProblem(wire.Malformed, "%d tags are over the limit of %d", len(n.Tags), maxTags)
	}
	for _, t := range n.Tags {
		if len(t) > 30 || !tagRE.MatchString(t) {
			return n, wire.NewProblem(wire.Malformed, "tag %.40q: want up to 30 of a-z, 0-9, dot, dash and underscore", check.Sanitize(t, 40))
		}
	}
	return n, nil
}

// notebook has the notes of all hosts. Only serve writes the document, of several receivers each.
type notebook struct {
	docs receiver.Docs

	mu      sync.Mutex
	loaded  bool
	version string // of the document that was read; empty: there is none
	hosts   map[ident.Host]hostNotes
}

type notesDoc struct {
	V     int                      `json:"v"`
	Hosts map[ident.Host]hostNotes `json:"hosts"`
}

// load reads the document if it changed. The caller holds the lock.
func (n *notebook) load() error {
	d, err := n.docs.Stat(receiver.NotesDoc)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the notes about hosts: %w", err)
	}
	if n.loaded && d.Version == n.version {
		return nil
	}
	b, err := n.docs.Load(receiver.NotesDoc, maxNotesDoc)
	var doc notesDoc
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the notes about hosts: %w", err)
	default:
		if err := wire.Decode(b, &doc); err != nil {
			return fmt.Errorf("read the notes about hosts: %w", err)
		}
	}
	if n.hosts = doc.Hosts; n.hosts == nil {
		n.hosts = map[ident.Host]hostNotes{}
	}
	n.loaded, n.version = true, d.Version
	return nil
}

// all returns the notes of all hosts.
func (n *notebook) all() (map[ident.Host]hostNotes, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(); err != nil {
		return nil, err
	}
	return maps.Clone(n.hosts), nil
}

// mostRaces is how often put tries again after another receiver changed the document.
const mostRaces = 20

// put stores a host's notes durably; empty ones are removed. shown is the digest of the notes that
// the operator saw; empty: not known. What others wrote about other hosts meanwhile stays.
func (n *notebook) put(h ident.Host, x hostNotes, shown string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for race := 0; ; race++ {
		err := n.tryPut(h, x, shown)
		if !errors.Is(err, receiver.ErrChanged) || race == mostRaces {
			return err
		}
	}
}

func (n *notebook) tryPut(h ident.Host, x hostNotes, shown string) error {
	if err := n.load(); err != nil {
		return err
	}
	if now := n.hosts[h].Digest(); shown != "" && shown != now && x.Digest() != now {
		return wire.NewProblem(wire.Malformed, "somebody else changed the notes about %s meanwhile: open its page again, and add yours: "+
			"tags %q, place %q, note %q", h, x.TagList(), x.Room, x.Note)
	}
	next := maps.Clone(n.hosts)
	if next[h] = x; len(x.Tags) == 0 && x.Room == "" && x.Note == "" {
		delete(next, h)
	}
	if len(next) > maxNotedHost {
		return wire.NewProblem(wire.Malformed, "notes about %d hosts are over the limit of %d", len(next), maxNotedHost)
	}
	b, err := wire.Encode(notesDoc{1, next})
	if err == nil {
		err = n.docs.Replace(receiver.NotesDoc, n.version, b)
	}
	if err != nil {
		return fmt.Errorf("store the notes about %s: %w", h, err)
	}
	n.loaded = false
	return nil
}

// setNotes stores the notes that a form has about a host.
func (s *Site) setNotes(w http.ResponseWriter, r *http.Request) error {
	h, m, err := s.hostOf(r)
	if err != nil {
		return err
	}
	n, err := parseNotes(r.PostForm.Get)
	if err != nil {
		return err
	}
	if err := s.notes.put(h.Name, n, r.PostForm.Get("shown")); err != nil {
		return err
	}
	s.o.Log.Info("host notes changed", "host", h.Name, "tags", n.TagList(), "room", n.Room, "by", Holder(r), "from", s.o.From(r))
	s.forget(m)
	http.Redirect(w, r, "/hosts/"+string(h.Name), http.StatusSeeOther)
	return nil
}

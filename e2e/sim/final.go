package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

func (b *book) count() { b.mu.Lock(); b.checked++; b.mu.Unlock() }

// names lists a folder below a machine's data folder.
func (m *Machine) names(dir string) []string {
	entries, _ := m.disk.ReadDir(filepath.Join(m.data, dir))
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func (s *Service) running() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.active
}

// final checks the rules for the end of a run.
func (w *World) final() {
	w.finalEpisodes()
	w.finalLedgers()
	w.finalAlerts()
}

// finalEpisodes: no episode is lost, changed or stored twice. Every stored episode has left
// its host's queue, and every acceptable episode is stored.
func (w *World) finalEpisodes() {
	b := w.book
	b.mu.Lock()
	facts := map[ident.EpisodeID]*fact{}
	for id, f := range b.episodes {
		if time.Since(f.at) > w.arrives() { // newer episodes may still be in transit
			facts[id] = f
		}
	}
	b.mu.Unlock()
	rows, known := map[ident.EpisodeID]int{}, map[ident.EpisodeID]bool{}
	for r, err := range local.Open(local.Options{FS: w.rx.disk, Dir: rxData}).Index.Since(time.Time{}) {
		if err != nil {
			b.breaks("ledgers are readable", local.IndexFile, "%v", err)
			break
		}
		known[r.Episode] = true
		if !r.Repaired && !r.Archived {
			rows[r.Episode]++
		}
	}
	rotated := slices.ContainsFunc(w.faults(), func(f Fault) bool { return f.Kind == "rx-rotate" }) // rows are in the old file
	places := map[ident.Host]map[string]string{}
	copied := map[ident.EpisodeID]bool{}
	for _, h := range w.hosts {
		h.copied.Range(func(name, _ any) bool { copied[ident.EpisodeID(name.(string))] = true; return true })
		at := map[string]string{}
		for _, dir := range []string{"shipped", "quarantine", "episodes", "outbox"} {
			for _, name := range h.names(dir) {
				id, _, _ := strings.Cut(name, ".")
				at[id] = dir
			}
		}
		places[h.id] = at
	}
	for id, f := range facts {
		b.count()
		at := places[f.host][string(id)]
		blocked := w.blocked.Load() || f.commit == localCommit
		content, err := readFile(w.rx.disk, filepath.Join(rxData, store.EpisodesDir, string(f.host), string(id)+wire.TarballSuffix))
		stored := err == nil
		switch {
		case !stored && at == "" && w.lostLater(f):
		case !stored && at == "":
			b.breaks("no episode is lost", "", "%s of %s does not exist anywhere", id, f.host)
		case !stored && at == "shipped":
			b.breaks("shipped episodes are stored", "", "%s of %s is shipped, and the receiver does not have it", id, f.host)
		case stored && !holds(content, id, f.body):
			b.breaks("no episode is changed", "", "%s of %s is stored with another content", id, f.host)
		case stored && at == "quarantine" && copied[id]: // a twin packed and shipped it first, by another encoder
		case stored && at == "quarantine":
			b.breaks("stored episodes leave the queue", at, "%s of %s is stored and set aside on its host: %s", id, f.host, w.reason(f.host, id))
		case stored && (at == "outbox" || at == "episodes"):
			b.breaks("stored episodes leave the queue", at, "%s of %s is stored, and waits on its host", id, f.host)
		case !stored && at == "quarantine" && !blocked:
			b.breaks("every queue drains", at, "%s of %s is set aside: %s", id, f.host, w.reason(f.host, id))
		case !stored && !blocked:
			b.breaks("every queue drains", string(f.host), "%s of %s waits in %s", id, f.host, at)
		case stored && !known[id] && !rotated:
			b.breaks("stored episodes have a row", "", "%s of %s is stored, and the index does not have it", id, f.host)
		case stored && rows[id] > 1:
			b.breaks("no episode is stored twice", "", "%s of %s has %d rows", id, f.host, rows[id])
		}
	}
}

// watchRemoved: a host removes its copy of an episode only while the receiver has the episode.
func (w *World) watchRemoved(m *Machine, path string) {
	dir, name := filepath.Split(path)
	id, ok := strings.CutSuffix(name, wire.TarballSuffix)
	i := slices.IndexFunc(w.hosts, func(h *Host) bool { return h.Machine == m })
	if !ok || i < 0 || dir != filepath.Join(hostData, "shipped")+"/" || !disk.Exists(m.disk, path) {
		return
	}
	w.book.count()
	if !disk.Exists(w.rx.disk, filepath.Join(rxData, store.EpisodesDir, m.name, name)) {
		w.book.breaks("a host removes only stored episodes", m.name, "%s removes %s, and the receiver does not have it", m.name, id)
	}
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	if f := w.book.episodes[ident.EpisodeID(id)]; f != nil {
		f.removed = time.Since(w.began)
	}
}

// lostLater reports whether a host removed its copy of a stored episode, to make room, and
// the receiver lost its store afterwards.
func (w *World) lostLater(f *fact) bool {
	return f.removed > 0 && slices.ContainsFunc(w.faults(), func(g Fault) bool { return g.Kind == "rx-restore" && g.At > f.removed })
}

func (w *World) reason(h ident.Host, id ident.EpisodeID) string {
	for _, host := range w.hosts {
		if host.id == h {
			text, _ := readFile(host.disk, filepath.Join(hostData, "quarantine", string(id), "quarantine_reason.json"))
			return strings.Join(strings.Fields(string(text)), " ")
		}
	}
	return ""
}

// holds reports whether a tarball has the content of an episode.
func holds(tarball []byte, id ident.EpisodeID, body string) bool {
	found := false
	err := episode.Inspect(bytes.NewReader(tarball), id, func(name string, _ int64, r io.Reader) error {
		text, err := io.ReadAll(r)
		found = found || name == episode.TelemetryFile("proc") && string(text) == body
		return err
	})
	return err == nil && found
}

// finalLedgers: each line is readable, times never decrease, and no outage ends before it
// begins.
func (w *World) finalLedgers() {
	for path, key := range map[string]string{
		filepath.Join(rxData, local.IndexFile): "received_at", filepath.Join(rxData, local.AlertsFile): "at",
		filepath.Join(rxData, local.RejectionsFile): "at", filepath.Join(rxAuthority, local.RosterFile): "at",
	} {
		w.ledger(w.rx, path, key)
	}
	for _, h := range w.hosts {
		w.ledger(h.Machine, filepath.Join(hostData, "shipped", "receipts.jsonl"), "at")
	}
	w.book.count()
	c, err := contacts.Read(local.Folder(w.rx.disk, rxData))
	if err != nil {
		w.book.breaks("ledgers are readable", receiver.ContactsDoc, "%v", err)
	}
	for _, o := range c.Receiver.Outages {
		if !o.To.IsZero() && o.To.Before(o.From) {
			w.book.breaks("no outage ends before it begins", "", "an outage from %s to %s", o.From, o.To)
		}
	}
}

func (w *World) ledger(m *Machine, path, key string) {
	w.book.count()
	if !disk.Exists(m.disk, path) {
		return
	}
	b, err := readFile(m.disk, path)
	if err != nil {
		w.book.breaks("ledgers are readable", path, "%s of %s: %v", path, m.name, err)
		return
	}
	var last time.Time
	for n, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if line == "" {
			continue
		}
		var row map[string]json.RawMessage
		var at time.Time
		err := json.Unmarshal([]byte(line), &row)
		if err == nil {
			err = json.Unmarshal(row[key], &at)
		}
		if err != nil {
			w.book.breaks("ledgers are readable", path, "%s of %s, line %d: %v: %.100q", path, m.name, n+1, err, line)
			return
		}
		if at.Before(last) {
			w.book.breaks("times never decrease", path, "%s of %s, line %d: %s after %s", path, m.name, n+1, at, last)
			return
		}
		last = at
	}
}

// finalAlerts: no alert fires without a cause, and people were notified of the end of alerts.
func (w *World) finalAlerts() {
	b := w.book
	b.mu.Lock()
	open, people := b.open, fmt.Sprint(b.people)
	last := b.judged
	notified := len(b.people)
	b.mu.Unlock()
	b.count()
	if w.blocked.Load() {
		return
	}
	for k, a := range open {
		if k.Symptom == fleet.RolledBack || k.Symptom == fleet.StaleVersion {
			continue // until another release is published
		}
		b.breaks("no alert outlives its cause", k.Symptom, "%s %s: %s (%s)", k.Host, k.Symptom, a.Detail, a.Reason)
	}
	if notified > len(open) && time.Since(last) < 2*w.checks() {
		b.breaks("people are notified when alerts end", "", "notified as firing, without an end: %s", people)
	}
}

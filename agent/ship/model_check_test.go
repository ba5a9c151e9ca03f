package ship_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// check asserts the invariants: at every step for some episodes, sometimes for all.
func (m *model) check(all bool) {
	m.mu.Lock()
	for key, c := range m.refused {
		if !m.counts(key) || c.durable {
			continue
		}
		c.durable = m.isDurable(key)
		// A refusal for damage may be followed by another try.
		if !c.durable && c.n == c.allowed && m.sound(c.last) {
			m.fatalf("the refusal of %v by policy %d is not on the disk %s later", key.what, key.epoch, time.Since(c.last))
		}
	}
	m.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.ids
	if !all {
		ids = ids[max(0, len(ids)-20):]
	}
	for _, id := range ids {
		if m.where(id) == "" && !m.confirmed[id] {
			m.fatalf("%s is lost: it is nowhere on the host, and the receiver never confirmed that it has it", id)
		}
	}
}

// sound reports whether the disk had worked for a while before then, so that the host had
// time to write the state of that moment.
func (m *model) sound(then time.Time) bool {
	return then.After(m.faulty.Add(time.Second)) && time.Since(then) > 5*time.Second
}

// counts reports whether a refusal is still valid under the current policy.
func (m *model) counts(key refusalKey) bool { return key.epoch == m.epoch || key.epoch == ever }

// isDurable reports whether the host knows of a refusal after a restart.
func (m *model) isDurable(key refusalKey) bool {
	policy := fmt.Sprint("policy-", key.epoch)
	switch what := key.what.(type) {
	case ident.Commit:
		st, err := spool.LoadState(m.disk, modelDir)
		return err == nil && st.Holds[what].Policy == policy
	case ident.EpisodeID:
		r, err := m.spool.ReasonOf(what)
		return err == nil && (r.Policy == policy || key.epoch == ever && r.Kind == wire.OtherDigest)
	}
	return false
}

// forgive allows one more refusal for those that were not durable before the crash; durable
// ones must still be known.
func (m *model) forgive(st spool.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, c := range m.refused {
		switch {
		case !m.counts(key) || m.isDurable(key):
		case c.durable:
			m.fatalf("the refusal of %v by policy %d was forgotten in a restart; holds are %v", key.what, key.epoch, st.Holds)
		default:
			c.allowed++
		}
	}
}

// where returns the places of the host that have the complete episode.
func (m *model) where(id ident.EpisodeID) string {
	for place, file := range map[string]string{
		"episodes":   path.Join("episodes", string(id), episode.DoneMarker),
		"outbox":     path.Join("outbox", string(id)+wire.TarballSuffix),
		"shipped":    path.Join("shipped", string(id)+wire.TarballSuffix),
		"quarantine": path.Join("quarantine", string(id), "episode", episode.DoneMarker),
		"aside":      path.Join("quarantine", string(id), string(id)+wire.TarballSuffix),
	} {
		if disk.Exists(m.disk, path.Join(modelDir, file)) {
			return place
		}
	}
	return ""
}

// noOrphans asserts that a spool that was just recovered has no file without an episode.
// A digest stays while its episode waits to be packed again: it may have been sent.
func (m *model) noOrphans() {
	entries, err := m.disk.ReadDir(path.Join(modelDir, "outbox"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.fatalf("%v", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, name := range names {
		id, sidecar := strings.CutSuffix(name, ".json")
		waits := disk.Exists(m.disk, path.Join(modelDir, "episodes", id, episode.DoneMarker))
		if sidecar && (waits || slices.Contains(names, id+wire.TarballSuffix)) {
			continue
		}
		if _, err := ident.ParseEpisodeID(strings.TrimSuffix(name, wire.TarballSuffix)); err != nil {
			m.fatalf("%s is left in the outbox: %v", name, names)
		}
	}
}

// heal ends all faults, and asserts that all episodes reach their places.
func (m *model) heal() {
	m.disk.Arm(0, faultdisk.Fail)
	m.mu.Lock()
	m.mode, m.serial = "", 7777
	m.epoch++
	clear(m.gated)
	clear(m.unwanted)
	clear(m.damaged)
	m.mu.Unlock()
	for range 4 * 24 * 6 {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if m.stuck.Load() {
			m.kill(faultdisk.All)
			m.start()
		}
	}
	m.check(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.ids {
		place := m.where(id)
		switch {
		case place == "shipped" && m.stored[id] == m.truth[id], place == "" && m.confirmed[id]:
			continue
		case place == "aside" || place == "quarantine":
			r, err := m.spool.ReasonOf(id)
			if err == nil && (r.Kind == wire.OtherDigest || r.Kind == spool.Unpackable && m.broken[id]) {
				continue
			}
			m.fatalf("%s is still set aside: %+v, %v", id, r, err)
		default:
			m.fatalf("%s is in %q, stored as %q", id, place, m.stored[id])
		}
	}
}

// met asserts that every status of the table and every fake answer was given to an upload.
func met(t *testing.T, answers map[string]int) {
	if uint64(*modelSteps)**modelSeeds < enoughSteps {
		return
	}
	want := append([]string{"200", "201"}, lies...)
	for _, a := range wire.Answers() {
		want = append(want, fmt.Sprint(a.Status))
	}
	for _, w := range want {
		if answers[w] == 0 {
			t.Errorf("%q was never met, so nothing is said about it; met were %v", w, answers)
		}
	}
}

// tidy asserts that nothing is left behind once the shipper has ended.
func (m *model) tidy() {
	m.stop()
	m.end()
	m.start()
	m.stop()
	m.end()
	if err := m.orphanDirs(); err != "" {
		m.fatalf("left behind: %s", err)
	}
}

// orphanDirs lists what is still in the outbox and in episodes.
func (m *model) orphanDirs() string {
	var left []string
	for _, dir := range []string{"episodes", "outbox"} {
		entries, err := m.disk.ReadDir(path.Join(modelDir, dir))
		if err != nil {
			return err.Error()
		}
		for _, e := range entries {
			left = append(left, path.Join(dir, e.Name()))
		}
	}
	return strings.Join(left, ", ")
}

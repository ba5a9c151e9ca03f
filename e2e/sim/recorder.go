package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/agent/orchestrate"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// record models `cis490 orchestrate`: the product's code decides whether an episode may
// begin, and a model writes it.
func (h *Host) record(p *Proc) error {
	conf, err := h.load(p)
	if err != nil {
		return fault.Exit(err, fault.Config)
	}
	conf.Ship.PingEvery = config.Duration(h.w.records()) // keeps the connection open until the next request
	cl, err := h.clientOf(p, conf)
	if err != nil {
		return err
	}
	defer cl.Close()
	b := h.running()
	o, err := orchestrate.New(orchestrate.Options{
		FS: p.fs, DataDir: hostData, Host: h.id, Build: b.Info, Gate: cl, Now: h.Clock.Now, Log: h.w.log(h.name, "orchestrate"),
		DiskReserve: int64(conf.Orchestrate.DiskReserve), OutboxLimit: int64(conf.Orchestrate.OutboxLimit),
	})
	if err != nil {
		return err
	}
	for {
		rest := h.w.records()
		switch {
		case h.idle.Load() || h.asleep.Load():
		case o.Admit(p.ctx) != nil:
			rest = h.w.times(time.Minute)
		default:
			h.w.watchAdmitted(h, b)
			if err := h.episode(p, b); err != nil {
				h.w.log(h.name, "orchestrate").Error("episode not recorded", "err", err)
			}
		}
		select {
		case <-p.ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

// episode writes a complete episode or half of one.
func (h *Host) episode(p *Proc, b Binary) error {
	id, err := ident.NewEpisodeID(h.Clock.Now(), noise{h.Machine})
	if err != nil {
		return err
	}
	body := fmt.Sprintf("{\"host\":%q,\"episode\":%q}\n", h.name, id)
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: episode.MetaSchema, Episode: id, Host: h.id, Experiment: ident.Digest(strings.Repeat("0", 64)),
		Code: episode.Code{Version: b.Version, Commit: b.Commit}, Verdict: episode.Accepted,
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(hostData, "episodes", string(id))
	if err := disk.MkdirAll(p.fs, dir, 0o770); err != nil {
		return err
	}
	for _, f := range []struct{ name, content string }{
		{episode.MetaFile, string(meta)}, {episode.TelemetryFile("proc"), body}, {episode.DoneMarker, ""},
	} {
		if err := disk.ReplaceBytes(p.fs, filepath.Join(dir, f.name), 0o660, []byte(f.content)); err != nil {
			return err
		}
	}
	h.w.book.recorded(id, fact{host: h.id, body: body, at: time.Now(), commit: b.Commit})
	return nil
}

// noise is a machine's source of random names.
type noise struct{ m *Machine }

func (n noise) Read(b []byte) (int, error) {
	n.m.dmu.Lock()
	defer n.m.dmu.Unlock()
	for i := range b {
		b[i] = byte(n.m.rand.Uint32())
	}
	return len(b), nil
}

// localCommit is the commit of a build made on a host. The gate does not know it.
const localCommit = ident.Commit("ffffffffffffffffffffffffffffffffffffffff")

// localBuild is a person who installs a local build on a host.
func localBuild(w *World, m *Machine, f Fault) {
	b := binary(0)
	b.Version, b.Commit = "1.0.0-local", localCommit
	w.trace(m.name, "a local build installed: %v", w.hosts[f.Who%len(w.hosts)].replace(b))
}

// releasedBuild installs a released build over it, unless an update did. A release on trial
// may fail, and a rollback leads back to the local build.
func releasedBuild(w *World, m *Machine, f Fault) {
	h := w.hosts[f.Who%len(w.hosts)]
	w.insist(m.name, "a released build installed", func() error {
		switch b, err := h.binary("good"); {
		case err != nil || b.Commit != localCommit:
			return err
		case h.onTrial():
			return errors.New("a release is on trial")
		}
		return h.replace(binary(0))
	})
}

// watchAdmitted: nothing is recorded that the gate rejects, or that uses the disk's reserve.
func (w *World) watchAdmitted(h *Host, b Binary) {
	w.book.count()
	now := time.Since(w.began)
	since := func(f Fault, after time.Duration) bool { return f.At+after < now && now < w.ends(f) }
	refused := func(f Fault) bool {
		switch f.Kind {
		case "gate-wrong", "gate-block":
			return b.Commit == ownCommit
		case "host-local":
			return b.Commit == localCommit && w.target(f) == h.Machine
		}
		return false
	}
	for _, f := range w.faults() {
		if f.Kind == "host-low" && w.target(f) == h.Machine && since(f, time.Minute) {
			w.book.breaks("the reserve stays free", "host", "%s records on a disk that has less than its reserve", h.name)
		}
		if !refused(f) || !since(f, w.asks()) {
			continue
		}
		// An answer of the gate is valid for a while, and a host without an answer records.
		if !slices.ContainsFunc(w.faults(), func(g Fault) bool {
			return !refused(g) && (w.kinds[g.Kind].Party != OfHost || w.target(g) == h.Machine) && g.At <= now && now < w.ends(g)+w.settles()
		}) {
			w.book.breaks("what the gate refuses is not recorded", "", "%s records with commit %s during %s", h.name, b.Commit, f.Kind)
		}
	}
}

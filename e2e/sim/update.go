package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"cis490/agent/checks"
	"cis490/agent/enroll"
	"cis490/install/update"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
	"cis490/receiver/rollout"
)

// The folders of versions and of releases.
const (
	hostOpt    = hostRoot + "/opt/cis490"
	rxReleases = rxData + "/releases"
	rxDist     = "/sim/receiver/dist"
)

// Binary is the content of a build's file.
type Binary struct {
	version.Info
	// Crash is the time until its shipper panics, once on each host; 0: never.
	Crash time.Duration `json:"crash,omitempty"`
	// Encoder makes different tarballs of the same episodes.
	Encoder int64 `json:"encoder,omitempty"`
}

func binary(n int) Binary {
	return Binary{Info: version.Info{
		Version: fmt.Sprintf("1.%d.0", n), Commit: ident.Commit(fmt.Sprintf("%040d", n+1)), OS: "linux", Arch: "amd64",
	}}
}

func (b Binary) bytes() []byte {
	out, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings and numbers
	}
	return out
}

// binary returns the build that a link of the host points to.
func (h *Host) binary(link string) (b Binary, err error) {
	to, err := h.disk.Readlink(filepath.Join(hostOpt, link))
	if err != nil {
		return b, err
	}
	content, err := readFile(h.disk, filepath.Join(hostOpt, to, "cis490"))
	if err == nil {
		err = json.Unmarshal(content, &b)
	}
	return b, err
}

func (h *Host) running() Binary {
	b, err := h.binary("current")
	if err != nil {
		h.w.book.breaks("a machine has a working binary", h.name, "%s: %v", h.name, err)
	}
	return b
}

// onTrial reports whether the running version differs from good.
func (h *Host) onTrial() bool {
	a, _ := h.disk.Readlink(filepath.Join(hostOpt, "current"))
	b, _ := h.disk.Readlink(filepath.Join(hostOpt, "good"))
	return a != b
}

// rolls reports whether a release is being rolled out.
func (r *Receiver) rolls() bool {
	p, err := rel.ReadRollout(r.disk, rxReleases)
	return err == nil && slices.ContainsFunc(p.Releases, func(p *rel.Progress) bool {
		return p.Stage == rel.StageCanary || p.Stage == rel.StageQuarter
	})
}

// autoupdate is `cis490 autoupdate` over a model of the machine.
func (h *Host) autoupdate(p *Proc) error {
	log := h.w.log(h.name, "autoupdate")
	unlock, err := h.lockInstall(p.ctx, p, false)
	if err != nil {
		return err
	}
	defer unlock()
	u, err := update.New(update.Options{
		FS: p.fs, Dir: hostOpt, Source: offers{h}, Machine: system{h, p},
		Keys: func() (string, error) {
			b, err := readFile(p.fs, filepath.Join(hostCerts, enroll.ReleaseKeysFile))
			if err != nil {
				return "", nil // cert-fetch installs it
			}
			return string(b), nil
		},
		OS: "linux", Arch: "amd64", Config: config.DefaultUpdate(), Now: h.Clock.Now, Log: log,
		Pause: func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		},
	})
	if err != nil {
		return err
	}
	before, _ := h.binary("good")
	r, err := u.Run(p.ctx)
	if err != nil {
		log.Warn("failed", "err", err)
		return err
	}
	switch r.Did {
	case update.Began:
		h.w.trace(h.name, "trial of %s begins", r.Version)
		h.w.book.count()
		if n := h.seen.Load(); n > 0 && r.Version == binary(0).Version || n > 1 && r.Version == binary(1).Version {
			h.w.book.breaks("no older release is installed", h.name, "%s tries %s after it was offered release %d", h.name, r.Version, n)
		}
	case update.RolledBack:
		h.w.trace(h.name, "%s is rolled back: %s", r.Version, r.Note)
		h.w.book.count()
		if h.onTrial() {
			h.w.book.breaks("a failed release does not run", h.name, "%s was rolled back on %s, and is still current", r.Version, h.name)
		}
	}
	if good, err := h.binary("good"); err == nil && good.Version != before.Version {
		h.w.trace(h.name, "%s is good", good.Version)
		h.w.book.count()
		if n := h.crashes[good.Version]; n != nil && n.Load() > 0 {
			h.w.book.breaks("good had a clean trial", "", "%s is good on %s, and its shipper crashed in its trial", good.Version, h.name)
		}
	}
	return nil
}

// offers is a host's source of releases: the offers of the running serve, while the link is
// up.
type offers struct{ h *Host }

func (o offers) rollout() (*rollout.Controller, error) {
	l := o.h.link
	l.mu.Lock()
	up := l.way == Up
	l.mu.Unlock()
	r := o.h.w.recv.rollout.Load()
	if !up || r == nil || !o.h.w.rx.On() {
		return nil, syscall.ECONNREFUSED
	}
	return r, nil
}

func (o offers) Look(_ context.Context, tag string) (wire.Offer, string, error) {
	r, err := o.rollout()
	if err != nil {
		return wire.Offer{}, "", err
	}
	p, ok := r.Offer("linux", "amd64", o.h.id)
	if o.h.w.oldOffer.Load() {
		if p, err = o.h.w.recv.oldest(); err != nil {
			return wire.Offer{}, "", err
		}
		ok, tag = true, ""
	}
	if !ok {
		return wire.Offer{}, "", update.ErrNothing
	}
	o.h.seen.Store(max(o.h.seen.Load(), p.Manifest.Seq))
	next := strconv.FormatUint(p.Manifest.Seq, 10)
	if next == tag {
		return wire.Offer{}, tag, update.ErrUnchanged
	}
	return p.Offer, next, nil
}

func (o offers) Blob(_ context.Context, d ident.Digest, offset int64, _ bool) (update.Content, error) {
	if _, err := o.rollout(); err != nil {
		return update.Content{}, err
	}
	b, err := readFile(o.h.w.rx.disk, rel.BlobPath(rxReleases, d))
	if err != nil {
		return update.Content{}, err
	}
	return update.Content{ReadCloser: io.NopCloser(bytes.NewReader(b[min(int(offset), len(b)):])), From: offset}, nil
}

// system is the machine's interface for updates.
type system struct {
	h *Host
	p *Proc
}

func (s system) Prepare(content io.Reader, target string, d ident.Digest) error {
	b, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if digestOf(b) != d {
		return errors.New("another digest")
	}
	return disk.ReplaceBytes(s.p.fs, target, 0o755, b)
}

func (s system) SelfTest(_ context.Context, path string) (version.Info, error) {
	var b Binary
	content, err := readFile(s.p.fs, path)
	if err == nil {
		err = json.Unmarshal(content, &b)
	}
	return b.Info, err
}

func (s system) Converge(_ context.Context, _ string) ([]string, error) {
	b, err := s.h.binary("current")
	if err != nil {
		return nil, err
	}
	if started := s.h.started.Load(); started != nil && started.Version != b.Version {
		return nil, s.h.converge(s.p, "/opt/cis490/current/cis490", true)
	}
	return nil, nil
}

func (s system) Restart(context.Context) error { s.h.restartDaemons(); return nil }

func (s system) Units(context.Context) ([]update.Daemon, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	u := s.h.Service("ship")
	return []update.Daemon{{
		Name: "cis490-shipper.service", Active: u.active, Starting: !u.active &&
			u.restarts == 0, Restarts: u.restarts, Since: u.since, Why: "panic",
	}}, nil
}

func (s system) Examine(ctx context.Context, _ string) update.Findings {
	var f update.Findings
	if q, err := checks.Figures(s.p.fs, hostData); err == nil {
		f.Waiting, f.Oldest, f.Recording, f.LastShipped = q.Waiting, q.Oldest, q.Recording, q.LastShipped
	}
	if cl, err := s.h.client(s.p, hostCerts); err == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err = cl.Reconcile(ctx, []wire.Pair{})
		f.Reaches = err == nil
		cl.Close()
	}
	return f
}

func (s system) Boot() string                           { return s.h.BootID() }
func (s system) Logs(context.Context, time.Time) []byte { return nil }
func (s system) Report(context.Context, string)         {}

// oldest returns the first published release.
func (r *Receiver) oldest() (rel.Published, error) {
	list, err := rel.List(r.disk, rxReleases)
	if err == nil && len(list) == 0 {
		err = update.ErrNothing
	}
	if err != nil {
		return rel.Published{}, err
	}
	return list[len(list)-1], nil
}

// releases are the releases that serve offers.
func (r *Receiver) releases(p *Proc, log *slog.Logger) *rollout.Controller {
	return rollout.Open(rollout.Options{
		Releases: r.backend(p, log).Releases, SilentAfter: r.conf.Rollout.CanaryHeard.D(), Build: r.build(), Now: r.Clock.Now, Log: log,
		Poll: r.w.polls(),
		Known: func() (map[ident.Host]rollout.Report, error) {
			all := map[ident.Host]rollout.Report{}
			book, err := contacts.Read(local.Folder(p.fs, rxData))
			for h, c := range book.Hosts {
				all[h] = rollout.Report{At: c.LastPing, OS: c.OS, Arch: c.Arch, Update: c.Update, Ailing: len(c.Failing) > 0, Leaving: c.Leaving}
			}
			return all, err
		},
	})
}

// publish is a person who publishes the next release.
func (r *Receiver) publish(change func(*Binary)) error {
	seq := int(r.seq.Add(1))
	b := binary(seq)
	change(&b)
	content := b.bytes()
	m := rel.Manifest{
		V: 1, Product: rel.Product, Seq: uint64(seq), Version: b.Version, Commit: b.Commit,
		Artifacts: []rel.Binary{{OS: "linux", Arch: "amd64", Blob: rel.Blob{Digest: digestOf(content), Size: int64(len(content))}}},
	}
	manifest, signature, err := r.key.Sign(m)
	if err != nil {
		return err
	}
	fsys := r.person().fs
	if err := disk.MkdirAll(fsys, rxDist, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		rel.ManifestFile: manifest, rel.SignatureFile: signature,
		m.Artifacts[0].FileName(): content,
	} {
		if err := disk.ReplaceBytes(fsys, filepath.Join(rxDist, name), 0o644, content); err != nil {
			return err
		}
	}
	bundle, err := rel.ReadDirectory(fsys, rxDist, rel.Keyring{r.key.Public()})
	if err != nil {
		return err
	}
	if err := bundle.Publish(fsys, rxReleases); err != nil {
		return err
	}
	order := rel.Order{Verb: rel.OrderPublish, Seq: m.Seq, Version: m.Version, Commit: m.Commit}
	if err := rel.Give(fsys, rxReleases, r.Clock.Now, order); err != nil {
		return err
	}
	time.Sleep(10 * time.Second) // then check the result
	order.Verb = rel.OrderPromote
	return rel.Give(fsys, rxReleases, r.Clock.Now, order)
}

package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cis490/agent/checks"
	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/install/update"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// The folders of a lab host.
const (
	hostRoot  = "/sim/host"
	hostData  = hostRoot + "/var/lib/cis490/data"
	hostCerts = hostRoot + "/etc/cis490/certs"
)

// Host is a lab host.
type Host struct {
	*Machine
	id      ident.Host
	started atomic.Pointer[Binary]   // the build of the running shipper
	leaves  atomic.Bool              // the machine shuts down
	idle    atomic.Bool              // nothing is recorded
	again   atomic.Bool              // a proxy delivers uploads twice
	later   atomic.Int64             // delay of the second delivery, in nanoseconds
	twin    atomic.Pointer[Host]     // has the same credentials
	copied  sync.Map                 // its episodes that a twin has too
	seen    atomic.Uint64            // seq of the newest offered release
	crashes map[string]*atomic.Int32 // of the shipper, by version
	parsed  atomic.Pointer[parsed]   // the config file as it was read last
}

func newHost(w *World, n int) *Host {
	name := fmt.Sprintf("lab-%02d", n+1)
	h := &Host{Machine: newMachine(w, name, fmt.Sprintf("10.0.0.%d:4000", n+10), hostRoot, hostData), id: ident.Host(name)}
	h.crashes = newCrashes()
	h.enable(
		&Service{Name: "ship", Unit: "cis490-shipper", Main: h.ship, First: time.Second},
		&Service{Name: "cert-fetch", Unit: "cis490-cert-fetch", Main: h.certFetch},
		&Service{Name: "health-check", Unit: "cis490-doctor-check", Main: h.healthCheck},
		&Service{Name: "autoupdate", Unit: "cis490-autoupdate", Main: h.autoupdate},
		&Service{Name: "record", Unit: "cis490-orchestrator", Main: h.record, First: time.Minute + time.Duration(n)*13*time.Second},
	)
	return h
}

func newCrashes() map[string]*atomic.Int32 {
	all := map[string]*atomic.Int32{}
	for n := range maxReleases {
		all[binary(n).Version] = &atomic.Int32{}
	}
	return all
}

// maxReleases bounds the releases of a run.
const maxReleases = 40

func (h *Host) build() version.Info { return h.running().Info }

func (h *Host) client(p *Proc, certs string) (*client.Client, error) {
	conf, err := h.load(p)
	if err != nil {
		return nil, err
	}
	conf.CertsDir = certs
	return h.clientOf(p, conf)
}

func (h *Host) clientOf(p *Proc, conf config.LabHost) (*client.Client, error) {
	return client.NewOn(client.Outside{FS: p.fs, Dial: p.Dial, Now: h.Clock.Now}, conf, h.build())
}

// ship is `cis490 ship`.
func (h *Host) ship(p *Proc) (err error) {
	log := h.w.log(h.name, "ship")
	conf, err := h.load(p)
	if err != nil {
		return fault.Exit(err, fault.Config)
	}
	cl, err := h.clientOf(p, conf)
	if err != nil {
		return err
	}
	defer cl.Close()
	held, err := spool.Lock(p.fs, hostData)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	sp, err := spool.Open(spool.Options{FS: p.fs, Dir: hostData, Now: h.Clock.Now, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	found, err := sp.Recover()
	if err != nil {
		log.Error("spool not wholly recovered", "err", err)
	}
	state, err := spool.LoadState(p.fs, hostData)
	if err != nil {
		log.Warn("starting without the state of the last run", "err", err)
	}
	b := h.running()
	h.started.Store(&b)
	if b.Crash > 0 && h.crashes[b.Version].Load() == 0 {
		t := time.AfterFunc(b.Crash, func() {
			h.w.trace(h.name, "the shipper of %s panics", b.Version)
			h.crashes[b.Version].Add(1)
			h.noteCrash()
			p.kill()
		})
		defer t.Stop()
	}
	s, err := ship.New(ship.Options{
		Host: ident.Host(conf.Host), Config: conf.Ship, Build: b.Info, BootID: h.BootID(), Spool: sp, State: state,
		NewPacker: h.packer, Receiver: proxied{cl, h}, Credentials: cl, Logger: log, Now: h.Clock.Now,
		Leaving: func(context.Context) bool { return h.leaves.Load() }, Sleeps: p.Sleeps, Notify: p.Notify, Watchdog: p.limit,
		Update: func() *wire.Update {
			u, err := update.ReadPublic(p.fs, hostOpt)
			if err != nil {
				return nil
			}
			return u
		},
	}, found.Interrupted)
	if err != nil {
		return err
	}
	return s.Run(p.ctx)
}

// noteCrash is ExecStopPost= of the shipper's unit.
func (h *Host) noteCrash() {
	to, err := disk.Readlink(h.disk, filepath.Join(hostOpt, "current"))
	if err == nil {
		note := filepath.Join(hostOpt, "state/ended/cis490-shipper.service")
		err = disk.ReplaceBytes(h.disk, note, 0o644, []byte(to+"\ncore-dump, exit status ABRT\n"))
	}
	if err != nil {
		h.w.trace(h.name, "the crash is not noted: %s", err)
	}
}

// packer packs with the encoder of the host's version. Each encoder makes different bytes
// of the same files.
func (h *Host) packer() (spool.Packer, error) {
	p, err := episode.NewPacker()
	n := h.running().Encoder
	if n == 0 {
		return p, err
	}
	return encoder{p, n}, err
}

// encoder is a packer that appends a frame that readers skip.
type encoder struct {
	spool.Packer
	n int64
}

func (e encoder) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	var b bytes.Buffer
	p, err := e.Packer.Pack(ctx, &b, src)
	if err != nil {
		return p, err
	}
	b.Write([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, byte(e.n)})
	p.Digest, p.Size = digestOf(b.Bytes()), int64(b.Len())
	_, err = w.Write(b.Bytes())
	return p, err
}

// certFetch is `cis490 cert-fetch`.
func (h *Host) certFetch(p *Proc) error { return h.fetch(p, false) }

func (h *Host) fetch(p *Proc, renew bool) error {
	conf, err := h.load(p)
	if err != nil {
		return err
	}
	e, err := enroll.New(enroll.Options{
		FS: p.fs, Dir: hostCerts, Host: ident.Host(conf.Host), Authority: conf.Authority.URL, Patience: 10 * time.Second,
		Log: h.w.log(h.name, "cert-fetch"), Now: h.Clock.Now, Dial: p.Dial,
		Probe: func(ctx context.Context, dir string) error {
			cl, err := h.client(p, dir)
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			_, err = cl.Reconcile(ctx, []wire.Pair{})
			return err
		},
	})
	if err != nil {
		return err
	}
	r, err := e.Run(p.ctx, renew)
	if err != nil {
		h.w.log(h.name, "cert-fetch").Warn("failed", "err", err)
	} else if r != enroll.Nothing {
		h.w.trace(h.name, "cert-fetch: %s", r)
	}
	return err
}

// healthCheck is `cis490 health-check` with the checks that work without a real machine.
func (h *Host) healthCheck(p *Proc) error {
	cl, err := h.client(p, hostCerts)
	if err != nil {
		return err
	}
	defer cl.Close()
	pong, err := cl.Ping(p.ctx, wire.Ping{Version: h.build().Version, Commit: h.build().Commit, Clock: h.Clock.Now().UTC()})
	if err != nil {
		return unsent(err)
	}
	rows := []check.Row{{ID: "outbox.oldest", Title: "episodes are shipped soon", Status: check.Pass}}
	if _, err := checks.Figures(p.fs, hostData); err != nil {
		rows[0].Status, rows[0].Detail = check.Fail, err.Error()
	}
	fresh := checks.FleetCheck(pong, h.enrolled(), h.Clock.Now())
	if h.w.watchMonitored(h, fresh); fresh.Status == check.Fail {
		fresh.Status = check.Warn // a soft check
	}
	rows = append(rows, check.Row{ID: "fleetcheck.fresh", Title: "Fleet monitoring is running", Status: fresh.Status, Detail: fresh.Detail})
	b, err := h.report(h.name, rows...)
	if err != nil {
		return err
	}
	if err := cl.PutHealth(p.ctx, b); err != nil {
		return unsent(err)
	}
	if p.ran = true; rows[0].Status == check.Fail {
		return errors.New("a check fails")
	}
	return nil
}

// unsent is the error of a health check whose report was not delivered.
func unsent(err error) error {
	switch {
	case client.Refusal(err) != nil:
		return err
	case errors.Is(err, client.ErrNoCredentials):
		return fault.Exit(err, fault.TempFail)
	}
	return fault.Exit(err, fault.Unavailable)
}

// enrolled is the time of the host's enrollment, by its clock.
func (h *Host) enrolled() time.Time {
	fi, err := h.disk.Lstat(filepath.Join(hostCerts, client.PairFile))
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// report is a health report of a host.
func (h *Host) report(name string, rows ...check.Row) ([]byte, error) {
	return json.Marshal(check.Report{
		Schema: "cis490.doctor/1", Host: name, Role: "lab-host", Version: h.build().Version, Commit: string(h.build().Commit),
		At: h.Clock.Now().UTC().Truncate(time.Second), Summary: check.Summary{Pass: len(rows)}, Checks: rows,
	})
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

func readFile(fsys disk.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

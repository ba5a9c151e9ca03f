package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	labchecks "cis490/agent/checks"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/httpclient"
	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/receiver"
	"cis490/receiver/authority"
	rxchecks "cis490/receiver/checks"
	"cis490/receiver/fleet"
	"cis490/receiver/gate"
	"cis490/receiver/local"
	"cis490/receiver/notify"
	"cis490/receiver/rollout"
	"cis490/receiver/server"
	"cis490/receiver/store"
)

// The receiver's names.
const (
	rxRoot       = "/sim/receiver"
	rxConfig     = "/sim/receiver/receiver.toml"
	rxData       = "/sim/receiver/data"
	rxAuthority  = "/sim/receiver/authority"
	rxSpare      = "/sim/receiver/run"
	rxSocket     = "/sim/receiver/admin.sock"
	receiverURL  = "https://receiver:8443"
	authorityURL = "https://receiver:8444"
)

// ownCommit is the commit of the receiver and of the hosts' first version.
const ownCommit = ident.Commit("0000000000000000000000000000000000000001")

// Receiver is the receiver's machine.
type Receiver struct {
	*Machine
	conf config.Receiver
	key  rel.SecretKey
	seq  atomic.Int64 // of the last release
	life atomic.Int64 // of a certificate, in nanoseconds
	// rollout is the rollout of the running serve.
	rollout atomic.Pointer[rollout.Controller]
	own     ownServers
}

func newReceiver(w *World) *Receiver {
	r := &Receiver{Machine: newMachine(w, "receiver", "10.0.0.1:4000", rxRoot, rxData), conf: config.DefaultReceiver()}
	r.conf.PublicURL, r.conf.DataDir, r.conf.Operator = receiverURL, rxData, "/sim/receiver/operator"
	r.conf.Authority.Dir, r.conf.Authority.Socket, r.conf.Authority.URL = rxAuthority, rxSocket, authorityURL
	r.conf.Fleet.BackupOld = 0
	r.conf.Fleet.SilentAfter *= config.Duration(w.pace)
	r.conf.Fleet.NeverReported *= config.Duration(w.pace)
	r.conf.Rollout.CanaryHeard *= config.Duration(w.pace)
	r.conf.Authority.CertLife = config.Duration(72 * time.Hour) // so that some are renewed within a few days
	r.life.Store(int64(r.conf.Authority.CertLife))
	r.enable(
		&Service{Name: "bootstrap", Unit: "cis490-bootstrap", Main: r.bootstrap},
		&Service{Name: "serve", Unit: "cis490-receiver", Main: r.serve, First: 100 * time.Millisecond},
		&Service{Name: "fleet-check", Unit: "cis490-fleet-health", Main: r.fleetCheck},
	)
	return r
}

func (r *Receiver) build() version.Info {
	return version.Info{Version: "1.0.0", Commit: ownCommit, OS: "linux", Arch: "amd64"}
}

// bootstrap is `cis490 bootstrap`.
func (r *Receiver) bootstrap(p *Proc) error {
	conf := r.conf.Authority
	conf.CertLife = config.Duration(r.life.Load())
	a, err := authority.New(authority.Options{
		Config: conf, PublicURL: receiverURL, Hostname: "receiver", FS: p.fs,
		Log: r.w.log(r.name, "bootstrap"), Now: r.Clock.Now, Listen: p.Listen, Admin: p.listenAdmin, Poll: 30 * r.w.polls(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	return a.Run(p.ctx)
}

// serve is `cis490 serve`.
func (r *Receiver) serve(p *Proc) error {
	log := r.w.log(r.name, "serve")
	releases := r.releases(p, log)
	back := r.backend(p, log)
	s, err := server.New(server.Options{
		Releases: releases, Offered: releases.Version,
		Config: r.conf, Build: r.build(), Gate: r.gate(p, releases, log), Roster: local.Roster(p.fs, rxAuthority),
		Backend: back, Credentials: local.Credentials(p.fs, r.conf),
		FleetCheck: func() time.Time {
			d, err := back.Docs.Stat(receiver.FleetCheckDoc)
			if err != nil {
				return time.Time{}
			}
			return d.Saved
		},
		Known: registry(labchecks.Checks(labchecks.Options{})), Now: r.Clock.Now, Clock: p.reading, Log: log, Listen: p.Listen, Poll: r.w.polls(),
		Notify: p.Notify,
	})
	if err != nil {
		return err
	}
	r.rollout.Store(releases)
	defer r.rollout.CompareAndSwap(releases, nil)
	return s.Run(p.ctx)
}

func (r *Receiver) gate(p *Proc, releases *rollout.Controller, log *slog.Logger) *gate.Gate {
	return gate.New(gate.Options{
		Own: ownCommit, FS: p.fs, Path: rxConfig, Released: releases.Commits, Blocked: releases.Blocked, Log: log, Poll: r.w.polls(),
	})
}

// backend is the receiver's state, as a process uses it.
func (r *Receiver) backend(p *Proc, log *slog.Logger) receiver.Backend {
	return local.Open(local.Options{
		FS: p.fs, Dir: rxData, Known: store.KnownDir(rxConfig), Now: r.Clock.Now, Reserve: int64(r.conf.Limits.DiskReserve), Log: log,
	})
}

func registry(all []check.Check) func(id string) (check.Check, bool) {
	return func(id string) (check.Check, bool) {
		if i := slices.IndexFunc(all, func(c check.Check) bool { return c.ID == id }); i >= 0 {
			return all[i], true
		}
		return check.Check{}, false
	}
}

// fleetCheck is `cis490 fleet-check`, wired as package commands wires it.
func (r *Receiver) fleetCheck(p *Proc) error {
	if r.w.unwatched.Load() {
		return nil
	}
	log := r.w.log(r.name, "fleet-check")
	releases := r.releases(p, slog.New(slog.DiscardHandler))
	g := r.gate(p, releases, slog.New(slog.DiscardHandler))
	g.Refresh()
	c := r.conf
	back := r.backend(p, log)
	back.Lease = func(receiver.Work) (io.Closer, error) { return io.NopCloser(nil), nil } // one runs at a time
	res, err := fleet.Run(fleet.Options{
		Source: fleet.Source{
			Backend: back, Roster: local.Roster(p.fs, rxAuthority), Gate: g.Judge, Offered: releases.Version,
			Clock: p.reading(),
		},
		Limits: fleet.LimitsOf(c),
		Now:    r.Clock.Now(), Known: registry(labchecks.Checks(labchecks.Options{})), Receiver: r.rows(p),
		Syslog: func(a fleet.Alert) error { r.w.book.said(a); return nil }, Log: log,
		Spare: local.Folder(p.fs, rxSpare),
	})
	r.w.book.ran(res)
	if err != nil {
		log.Error("fleet-check failed", "err", err)
	}
	if err != nil && res.At.IsZero() {
		return err
	}
	p.ran = true
	if _, err := notify.Deliver(p.ctx, notify.Options{
		Memory: res.Memory, Alerts: res.Alerts, Now: res.At, Open: res.Open, Unwritten: res.Unwritten, SyslogErr: res.SyslogErr,
		RepeatAfter: c.Notify.RepeatAfter.D(), Together: fleet.LimitsOf(c).Together(),
		Wait: func(context.Context, int) error { return nil }, Log: log,
	}, []notify.Target{{Name: "person", Send: func(_ context.Context, m notify.Message) error {
		if r.w.away.Load() {
			return errors.New("nobody takes it")
		}
		r.w.book.notified(m)
		return nil
	}}}); err != nil {
		log.Error("notifications not stored", "err", err)
	}
	return res.Failed()
}

// rows returns the results of the receiver's checks that work in the simulator.
func (r *Receiver) rows(p *Proc) []check.Row {
	known := registry(rxchecks.Checks(rxchecks.Options{Config: r.conf, Now: r.Clock.Now}))
	row := func(id string, status check.Status, detail string) check.Row {
		c, _ := known(id)
		return check.Row{ID: id, Title: c.Title, Status: status, Detail: detail, Fix: c.Fix, Hard: c.Severity == check.Hard}
	}
	judge := func(id string, err error) check.Row {
		if err != nil {
			return row(id, check.Fail, err.Error())
		}
		return row(id, check.Pass, "well")
	}
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	free, err := p.fs.Free(rxData)
	if err == nil && free < int64(r.conf.Limits.DiskReserve) {
		err = fmt.Errorf("%d bytes are free", free)
	}
	return []check.Row{
		judge("receiver.ready", r.ask(ctx, p, receiverURL+"/readyz", "", nil, nil)),
		judge("authority.reachable", r.ask(ctx, p, authorityURL+"/v1/health", "", nil, nil)),
		judge("disk.reserve", err),
	}
}

// ask sends a request to a server of this machine, over a socket if one is given.
func (r *Receiver) ask(ctx context.Context, p *Proc, url, socket string, in, out any) error {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) { return p.Dial(ctx, network, socket) }
	client := httpclient.New(&http.Transport{DisableKeepAlives: true, DialContext: dial}, ownBounds())
	if socket == "" {
		var err error
		if client, err = r.own.client(r, p); err != nil {
			return err
		}
	}
	method, body := http.MethodGet, &bytes.Buffer{}
	if in != nil {
		method = http.MethodPost
		if err := json.NewEncoder(body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body) // to the end, so that the connection is used again
	_ = res.Body.Close()
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %d", url, res.StatusCode)
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

// ownServers are the receiver's connections to its own servers. They are shared, because the
// handshakes of each process would dominate the cost.
type ownServers struct {
	mu    sync.Mutex
	trust []byte // when the client was created
	c     *http.Client
}

func ownBounds() httpclient.Bounds {
	return httpclient.Bounds{Total: 30 * time.Second, Answer: 1 << 20}
}

func (o *ownServers) client(r *Receiver, p *Proc) (*http.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := filepath.Join(rxAuthority, "trust.pem")
	trust, err := readFile(p.fs, path)
	if err != nil {
		return nil, err
	}
	if o.c == nil || !bytes.Equal(trust, o.trust) {
		pool, err := pki.NewBundle(p.fs, path).Get()
		if err != nil {
			return nil, err
		}
		conf := pki.ClientTLS(pool, nil)
		conf.Time = r.Clock.Now
		o.trust, o.c = trust, httpclient.New(&http.Transport{DialContext: r.person().Dial, TLSClientConfig: conf}, ownBounds())
	}
	return o.c, nil
}

// admit creates a join token as a person would, and stores it as install does.
func (r *Receiver) admit(ctx context.Context, h *Host) error {
	p := r.person()
	var made []authority.CreatedToken
	if err := r.ask(ctx, p, "http://authority/v1/tokens", rxSocket, authority.TokenRequest{Hosts: []ident.Host{h.id}}, &made); err != nil {
		return fmt.Errorf("make token: %w", err)
	}
	fsys := h.person().fs
	if err := disk.MkdirAll(fsys, hostCerts, 0o750); err != nil {
		return err
	}
	r.w.wg.Go(func() { r.admitAgain(ctx, h, made[0]) })
	return disk.ReplaceBytes(fsys, filepath.Join(hostCerts, "join-token"), 0o600, []byte(made[0].Token))
}

// admitAgain is a person who creates another token if the first one expires unused, as after
// the receiver's clock was behind.
func (r *Receiver) admitAgain(ctx context.Context, h *Host, t authority.CreatedToken) {
	for r.Clock.Now().Before(t.Expires) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(30 * time.Minute):
		}
		if b, _ := readFile(h.disk, filepath.Join(hostCerts, "join-token")); string(b) != t.Token {
			return
		}
	}
	r.w.insist(r.name, "another token for "+h.name, func() error { return r.admit(ctx, h) })
}

// person returns a process of a user who is logged in on the machine.
func (m *Machine) person() *Proc {
	p := &Proc{m: m, ctx: m.w.ctx, end: func() {}}
	p.fs = procFS{p}
	return p
}

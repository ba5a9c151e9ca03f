package commands

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/agent/client"
	"cis490/install"
	"cis490/install/update"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/httpclient"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/manifest"
	"cis490/internal/peercred"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	rxchecks "cis490/receiver/checks"
)

// The roles in reports.
const (
	roleLabHost  = "lab-host"
	roleReceiver = "receiver"
	roleNone     = "none" // in the report of a machine without a config
)

// roleConfig is a role of this machine and its config file.
type roleConfig struct{ role, path string }

// roleFlags are the flags that select a machine's roles.
func roleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", EnvVars: []string{"CIS490_CONFIG"}, Usage: "read `FILE` (default: the files in /etc/cis490)"},
		&cli.StringFlag{Name: "role", Usage: "only for `ROLE`: lab-host or receiver (default: this machine's roles)"},
	}
}

// roles returns the selected roles: the one of --config, the one of --role even without a
// config file, or those with a config file.
func (a *app) roles(c *cli.Context) ([]roleConfig, error) {
	role, path := c.String("role"), c.String("config")
	switch {
	case role != "" && role != roleLabHost && role != roleReceiver:
		return nil, usagef(c, "unknown role %q: want lab-host or receiver", role)
	case path != "" && role == "":
		return []roleConfig{{roleOf(path), path}}, nil
	case path != "":
		return []roleConfig{{role, path}}, nil
	case role != "":
		return []roleConfig{{role, a.configPath(role)}}, nil
	}
	var all []roleConfig
	for _, role := range []string{roleReceiver, roleLabHost} {
		if a.hasRole(role) {
			all = append(all, roleConfig{role, a.configPath(role)})
		}
	}
	if len(all) == 0 {
		return nil, noRole()
	}
	return all, nil
}

// roleOf guesses the role of a config file from its keys, or else its name.
func roleOf(path string) string {
	_, lab, _ := config.LoadLabHost(path)
	_, rx, _ := config.LoadReceiver(path)
	if len(rx) < len(lab) || len(rx) == len(lab) && filepath.Base(path) == "receiver.toml" {
		return roleReceiver
	}
	return roleLabHost
}

// installed reports whether a config is the machine's own. Only then its units are in
// systemd and its files belong to the service users.
func (p roleConfig) installed() bool {
	return p.path == config.LabHostPath || p.path == config.ReceiverPath
}

// unitsOf splits a role's units into daemons and timers. elsewhere means that this receiver has
// no authority.
func unitsOf(r install.Role, elsewhere bool) machine.UnitSet {
	var set machine.UnitSet
	all := slices.DeleteFunc(r.Units(), func(u string) bool { return elsewhere && u == install.AuthorityUnit })
	for _, u := range all {
		name, timer := strings.CutSuffix(u, ".timer")
		switch {
		case timer:
			set.Timers = append(set.Timers, u)
		case !slices.Contains(all, strings.TrimSuffix(name, ".service")+".timer"):
			set.Daemons = append(set.Daemons, u)
		}
	}
	return set
}

// labHostChecks returns the registry of a lab host, with its inputs.
func (a *app) labHostChecks(p roleConfig) (labchecks.Options, []check.Check) {
	conf, unknown, err := config.LoadLabHost(p.path)
	o := labchecks.Options{Path: p.path, Config: conf, Err: err, Unknown: unknown, Build: a.env.Build, Now: time.Now}
	if err == nil {
		if cl, err := client.New(conf, a.env.Build); err == nil {
			o.Receiver = cl
		}
		o.Queue = func() (wire.Queue, error) { return labchecks.Figures(disk.OS{}, conf.DataDir) }
		o.Unreached = func() (time.Time, error) { return labchecks.Unreached(disk.OS{}, conf.DataDir) }
		o.Quarantine = func() (map[string]int, error) { return labchecks.Reasons(disk.OS{}, conf.DataDir) }
		o.Stuck = func() ([]ident.EpisodeID, error) { return labchecks.Stuck(disk.OS{}, conf.DataDir) }
		o.Experiment = func() (string, error) {
			e, err := loadExperiment(conf.Orchestrate.Experiment)
			return fmt.Sprintf("%s, %d profiles, sha256 %.12s…", cmp.Or(e.Name, "-"), len(e.Profiles), e.Digest), err
		}
	}
	if p.installed() {
		o.Systemd, o.Units = machine.Systemd{}, unitsOf(install.LabHost, false)
		o.User, o.Recorder = "cis490", "cis490-rec"
		o.Updates = func() (*wire.Update, error) { return update.ReadPublic(disk.OS{}, installDir) }
		o.Offered = func(ctx context.Context) (string, error) { return a.offered(ctx, conf) }
	}
	return o, labchecks.Checks(o)
}

// offered returns the version that the receiver offers this host, or "". It does not verify
// the release; autoupdate does.
func (a *app) offered(ctx context.Context, conf config.LabHost) (string, error) {
	offer, _, err := a.offers(conf, slog.New(slog.DiscardHandler)).Look(ctx, "")
	if errors.Is(err, update.ErrNothing) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var m manifest.Manifest
	if err := wire.Decode([]byte(offer.Manifest), &m); err != nil {
		return "", fmt.Errorf("read offer: %w", err)
	}
	return m.Version, nil
}

// receiverChecks returns the registry of a receiver, with its inputs.
func (a *app) receiverChecks(p roleConfig, deep bool) (rxchecks.Options, []check.Check) {
	conf, unknown, err := config.LoadReceiver(p.path)
	o := rxchecks.Options{Path: p.path, Config: conf, Err: err, Unknown: unknown, Build: a.env.Build, Now: time.Now, Deep: deep}
	if err == nil {
		o.Client, o.Base = localClient(conf)
		o.Backend = stored(conf, p.path)
		if conf.Authority.Shared() {
			o.Standby = func(ctx context.Context) (problem, fix string, err error) {
				s, err := authority.NewClient(conf.Authority.Socket).State(ctx)
				return s.Problem, s.Fix, err
			}
		}
	}
	if p.installed() {
		o.Systemd, o.Units = machine.Systemd{}, unitsOf(install.Receiver, conf.Authority.Elsewhere)
		o.User, o.AuthorityUser = "cis490", "cis490-ca"
	}
	return o, rxchecks.Checks(o)
}

// localClient returns a client of this machine's serve and authority, whatever the public
// name resolves to. It trusts only the fleet's CA and the system's CAs, and is nil if the
// CA certificate is not readable.
func localClient(c config.Receiver) (*http.Client, string) {
	b, err := disk.ReadFile(disk.OS{}, filepath.Join(c.Authority.Dir, "trust.pem"), disk.Small)
	if err != nil && c.TLS.Mode != "proxy" {
		return nil, ""
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(b)
	if b, err := disk.ReadFile(disk.OS{}, c.TLS.Root, disk.Small); err == nil {
		roots.AppendCertsFromPEM(b)
	}
	base, local := c.PublicURL, map[string]string{}
	if from, to, ok := redirect(c.PublicURL, c.Listen); ok && c.TLS.Mode != "proxy" {
		local[from] = to
	}
	if from, to, ok := redirect(c.Authority.URL, c.Authority.Listen); ok && !c.Authority.Elsewhere && !c.Authority.Shared() {
		local[from] = to // behind a proxy too, because this is the authority
	}
	if c.TLS.Mode == "proxy" {
		base = "http://serve"
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if c.TLS.Mode == "proxy" && addr == "serve:80" {
			return peercred.Dial(ctx, c.TLS.Socket)
		}
		if to, ok := local[addr]; ok {
			addr = to
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	t := &http.Transport{DialContext: dial, TLSClientConfig: pki.ClientTLS(roots, nil), DisableKeepAlives: true}
	return httpclient.New(t, httpclient.Bounds{Total: 30 * time.Second, Answer: wire.MaxAnswer}), base
}

// redirect returns the address in a public URL and the local one to dial instead.
func redirect(public, listen string) (from, to string, ok bool) {
	u, err := url.Parse(public)
	if err != nil {
		return "", "", false
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", "", false
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	p := u.Port()
	if p == "" {
		p = "443"
	}
	return net.JoinHostPort(u.Hostname(), p), net.JoinHostPort(host, port), true
}

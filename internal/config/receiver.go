package config

import (
	"net"
	"net/netip"
	"net/url"
	"time"

	"cis490/internal/ident"
)

// Receiver is receiver.toml; serve, bootstrap and fleet-check read it.
type Receiver struct {
	PublicURL string      `toml:"public_url"`
	Name      string      `toml:"name"` // among several receivers; empty: the machine's
	Listen    string      `toml:"listen"`
	DataDir   string      `toml:"data_dir"`
	Operator  string      `toml:"operator_file"`
	Balancer  Balancer    `toml:"balancer"`
	TLS       TLS         `toml:"tls"`
	Authority Authority   `toml:"authority"`
	Gate      Gate        `toml:"gate"`
	Limits    Limits      `toml:"limits"`
	Store     Store       `toml:"store"`
	Ledger    Ledger      `toml:"ledger"`
	Fleet     FleetHealth `toml:"fleet"`
	Update    Update      `toml:"update"`
	Rollout   Rollout     `toml:"rollout"`
	Notify    Notify      `toml:"notify"`
}

// Balancer configures what serve and bootstrap do behind a TCP balancer.
type Balancer struct {
	From  []string `toml:"from"` // addresses and networks; see Prefixes
	Drain Duration `toml:"drain"`
}

// Prefixes returns the networks of From.
func (b Balancer) Prefixes() (all []netip.Prefix) {
	for _, text := range b.From {
		if p, err := prefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// prefix parses an address or a network.
func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if mapped := 128 - 32; err == nil && p.Addr().Is4In6() && p.Bits() >= mapped { // addresses are compared as IPv4
		return p.Addr().Unmap().Prefix(p.Bits() - mapped)
	}
	return p, err
}

// maxDrain bounds Drain: service managers wait for the end.
const maxDrain = 60 * time.Second

func (b Balancer) validate(p *problems, mode string) {
	for _, text := range b.From {
		if _, err := prefix(text); err != nil {
			p.add("balancer.from", `want addresses or networks, such as "10.0.0.5" or "10.0.0.0/28"`)
		}
	}
	if len(b.From) > 0 && mode == "proxy" {
		p.add("balancer.from", `works with tls.mode = "direct" only; a proxy says X-Forwarded-For`)
	}
	if b.Drain.D() < 0 || b.Drain.D() > maxDrain {
		p.add("balancer.drain", "want 0s to %s, got %s", maxDrain, b.Drain.D())
	}
}

// TLS configures serve's certificate.
type TLS struct {
	Mode         string `toml:"mode"` // "direct" or "proxy"
	Certificate  string `toml:"certificate"`
	Key          string `toml:"key"`
	Root         string `toml:"root"` // CA of a certificate that the authority did not issue; sent to hosts
	Socket       string `toml:"socket"`
	ClientHeader string `toml:"client_header"`
}

// Authority configures bootstrap.
type Authority struct {
	Listen     string   `toml:"listen"`
	URL        string   `toml:"url"` // empty: public_url's host with the authority's port
	Dir        string   `toml:"dir"`
	Socket     string   `toml:"socket"`
	Names      []string `toml:"names"` // additional names and addresses in server certificates
	CertLife   Duration `toml:"cert_life"`
	ServerLife Duration `toml:"server_life"`
	TokenTTL   Duration `toml:"token_ttl"`
	Elsewhere  bool     `toml:"elsewhere"` // on another receiver of the same database
	// URLFile has the URL of the database with the authority's rows, for its own user. Empty: they
	// are in files.
	URLFile string `toml:"url_file"`
}

// Shared reports whether more than one machine may have the authority.
func (a Authority) Shared() bool { return a.URLFile != "" }

// Gate configures which code commits may ship, in addition to the receiver's own and those
// of published releases.
type Gate struct {
	Enabled        bool           `toml:"enabled"`
	ExtraCommits   []ident.Commit `toml:"extra_commits"`
	BlockedCommits []ident.Commit `toml:"blocked_commits"`
}

// Limits bound what a host can make the receiver do.
type Limits struct {
	EpisodeSize Size     `toml:"episode_size"`
	DiskReserve Size     `toml:"disk_reserve"`
	Uploads     int      `toml:"uploads"`     // concurrent
	HostQuota   Size     `toml:"host_quota"`  // stored per host; 0: no limit
	HostHourly  Size     `toml:"host_hourly"` // accepted per host and hour; 0: no limit
	IdleTimeout Duration `toml:"idle_timeout"`
	// An episode that unpacks to more is stored and listed as refused, and not exported.
	UnpackedSize  Size `toml:"unpacked_size"`
	UnpackedFiles int  `toml:"unpacked_files"`
	UnpackedDepth int  `toml:"unpacked_depth"`
}

// The limits of every episode, which hosts observe too; see package episode.
const (
	mostUnpacked = 64 << 30
	mostFiles    = 10_000
	mostDepth    = 8
)

// FleetHealth configures fleet-check.
type FleetHealth struct {
	SilentAfter   Duration `toml:"silent_after"`
	Lookback      Duration `toml:"lookback"`
	NeverReported Duration `toml:"never_reported"`
	BackupOld     Duration `toml:"backup_old"` // 0: backups may have any age
}

// Notify configures the recipients of alerts, beside the journal. URLs with secrets are in
// a separate file.
type Notify struct {
	URLsFile         string   `toml:"urls_file"`
	WebhookURL       string   `toml:"webhook_url"`
	WebhookTokenFile string   `toml:"webhook_token_file"`
	AlertmanagerURL  string   `toml:"alertmanager_url"`
	HeartbeatURL     string   `toml:"heartbeat_url"`
	RepeatAfter      Duration `toml:"repeat_after"`
}

// Rollout configures how releases reach the fleet.
type Rollout struct {
	CanaryHeard Duration `toml:"canary_heard"` // a canary must have pinged within this time
	Downloads   int      `toml:"downloads"`    // concurrent
}

// DefaultReceiver holds every default of a receiver.
func DefaultReceiver() Receiver {
	return Receiver{
		Listen:   ":8443",
		DataDir:  "/var/lib/cis490",
		Operator: "/etc/cis490/operator",
		TLS:      TLS{Mode: "direct", Socket: "/run/cis490-receiver/http.sock", ClientHeader: "X-Client-Cert"},
		Authority: Authority{
			Listen:     ":8444",
			Dir:        "/var/lib/cis490-authority",
			Socket:     "/run/cis490-authority/admin.sock",
			CertLife:   hours(30 * 24),
			ServerLife: hours(90 * 24),
			TokenTTL:   hours(72),
		},
		Gate: Gate{Enabled: true},
		Limits: Limits{
			EpisodeSize: 4 << 30,
			DiskReserve: 2 << 30,
			Uploads:     64,
			IdleTimeout: seconds(60),

			UnpackedSize:  256 << 20,
			UnpackedFiles: mostFiles,
			UnpackedDepth: mostDepth,
		},
		Store:  Store{Backend: StoreLocal, S3: S3{Region: "us-east-1", PathStyle: true}},
		Ledger: Ledger{Backend: LedgerFiles, URLFile: "/etc/cis490/postgres"},
		Fleet: FleetHealth{
			SilentAfter:   minutes(30),
			Lookback:      hours(24),
			NeverReported: hours(1),
			BackupOld:     hours(7 * 24),
		},
		Update:  DefaultUpdate(),
		Rollout: Rollout{CanaryHeard: hours(1), Downloads: 16},
		Notify:  Notify{URLsFile: NotifyURLsPath, RepeatAfter: hours(4)},
	}
}

// Validate returns all errors as *Error with the key.
func (c Receiver) Validate() []error {
	var p problems
	p.httpsURL("public_url", c.PublicURL)
	if _, err := ident.ParseHost(c.Name); c.Name != "" && err != nil {
		p.add("name", "want 1 to 63 of a-z, 0-9 and '-'")
	}
	p.address("listen", c.Listen)
	p.absolute("data_dir", c.DataDir)
	p.absolute("operator_file", c.Operator)
	for key, path := range map[string]string{"tls.certificate": c.TLS.Certificate, "tls.key": c.TLS.Key, "tls.root": c.TLS.Root} {
		if path != "" {
			p.absolute(key, path)
		}
	}
	switch c.TLS.Mode {
	case "direct":
		if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
			p.add("tls.certificate", "set both certificate and key, or neither (the authority then issues one)")
		}
	case "proxy":
		p.absolute("tls.socket", c.TLS.Socket)
		if c.TLS.ClientHeader == "" {
			p.add("tls.client_header", "name the header in which the proxy passes the client certificate")
		}
	default:
		p.add("tls.mode", `want "direct" or "proxy"`)
	}
	c.Balancer.validate(&p, c.TLS.Mode)
	p.address("authority.listen", c.Authority.Listen)
	if c.Authority.URL != "" {
		p.httpsURL("authority.url", c.Authority.URL)
	}
	p.absolute("authority.dir", c.Authority.Dir)
	if c.Authority.Elsewhere && c.Ledger.Backend != LedgerPostgres {
		p.add("authority.elsewhere", `needs [ledger] backend = "postgres", through which the authority's files are copied`)
	}
	if c.Authority.URLFile != "" {
		p.absolute("authority.url_file", c.Authority.URLFile)
		if c.Ledger.Backend != LedgerPostgres || c.Authority.Elsewhere {
			p.add("authority.url_file", `needs [ledger] backend = "postgres" and elsewhere = false`)
		}
	}
	p.absolute("authority.socket", c.Authority.Socket)
	p.lasting("authority.cert_life", c.Authority.CertLife)
	p.lasting("authority.server_life", c.Authority.ServerLife)
	p.lasting("authority.token_ttl", c.Authority.TokenTTL)
	p.commits("gate.extra_commits", c.Gate.ExtraCommits)
	p.commits("gate.blocked_commits", c.Gate.BlockedCommits)
	p.positive("limits.episode_size", int64(c.Limits.EpisodeSize))
	p.positive("limits.uploads", int64(c.Limits.Uploads))
	p.lasting("limits.idle_timeout", c.Limits.IdleTimeout)
	if size := c.Limits.UnpackedSize; size < 1 || size > mostUnpacked {
		p.add("limits.unpacked_size", `want "1 B" to "64 GiB"`)
	}
	p.between("limits.unpacked_files", c.Limits.UnpackedFiles, 1, mostFiles)
	p.between("limits.unpacked_depth", c.Limits.UnpackedDepth, 0, mostDepth)
	c.Store.validate(&p)
	c.Ledger.validate(&p, c.Store)
	p.lasting("fleet.silent_after", c.Fleet.SilentAfter)
	p.lasting("fleet.lookback", c.Fleet.Lookback)
	p.lasting("fleet.never_reported", c.Fleet.NeverReported)
	p.notNegative("fleet.backup_old", int64(c.Fleet.BackupOld)) // an int of ARMv7 has no room for a week
	p.lasting("update.trial", c.Update.Trial)
	p.lasting("update.watch", c.Update.Watch)
	p.lasting("rollout.canary_heard", c.Rollout.CanaryHeard)
	p.positive("rollout.downloads", int64(c.Rollout.Downloads))
	for key, path := range map[string]string{"notify.urls_file": c.Notify.URLsFile, "notify.webhook_token_file": c.Notify.WebhookTokenFile} {
		if path != "" {
			p.absolute(key, path)
		}
	}
	for key, u := range map[string]string{
		"notify.webhook_url": c.Notify.WebhookURL, "notify.alertmanager_url": c.Notify.AlertmanagerURL,
		"notify.heartbeat_url": c.Notify.HeartbeatURL,
	} {
		if u != "" {
			p.webURL(key, u)
		}
	}
	p.lasting("notify.repeat_after", c.Notify.RepeatAfter)
	return p.all
}

// derived fills in values that depend on other keys.
func (c Receiver) derived() Receiver {
	if c.Authority.URL == "" {
		if u, err := url.Parse(c.PublicURL); err == nil && u.Host != "" {
			_, port, err := net.SplitHostPort(c.Authority.Listen)
			if err == nil {
				c.Authority.URL = "https://" + net.JoinHostPort(u.Hostname(), port)
			}
		}
	}
	return c
}

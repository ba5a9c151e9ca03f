package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// enough is how many accepted episodes per host end `demo --once`.
const enough = 3

func (a *app) demoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "run the whole system on loopback, without root or systemd",
		ArgsUsage: noArgs,
		Description: "Starts an authority, a receiver and lab hosts as processes in a temporary folder.\n" +
			"Each host enrolls with a join token, records episodes of a child process and ships\n" +
			"them over mutual TLS; fleet-check runs every few seconds. Ctrl-C stops everything\n" +
			"and removes the folder.\n\nExamples:\n" +
			"   cis490 demo --hosts 3\n   cis490 demo --break\n   cis490 demo --once --keep",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "hosts", Value: 1, Usage: "run `N` lab hosts"},
			&cli.BoolFlag{Name: "once", Usage: fmt.Sprintf("stop after %d accepted episodes of every host", enough)},
			&cli.BoolFlag{Name: "break", Usage: "make a host silent, to show its alert with the fix, and its end"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the folder"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "with --once, give up after `TIME`"},
		},
		Action: a.demo,
	}
}

// demo is a run of the whole system.
type demo struct {
	a     *app
	dir   string
	hosts []ident.Host
	kids  *children
	url   string // of the receiver
	fault *silence
}

func (a *app) demo(c *cli.Context) (err error) {
	n := c.Int("hosts")
	if n < 1 || n > 50 {
		return usagef(c, "--hosts: want 1 to 50, got %d", n)
	}
	if a.env.Build.Commit == "" {
		return fault.Exit(fault.Fix(errors.New("this binary has no commit, and the receiver rejects episodes without one"), "make demo"),
			fault.Config)
	}
	// In /tmp, because a Unix socket's path has at most 107 bytes.
	dir := filepath.Join("/tmp", "cis490-demo-"+rand.Text()[:10])
	if err := (disk.OS{}).Mkdir(dir, 0o700); err != nil {
		return err
	}
	forget, err := removeIfKilled(dir)
	if err != nil {
		return err
	}
	defer forget()
	a.stopsItself() // Ctrl-C is the way to end it
	// The children die with the thread that started them; see children.
	runtime.LockOSThread()
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	d := &demo{a: a, dir: dir, kids: newChildren(dir)}
	if c.Bool("break") {
		d.fault = &silence{}
	}
	for i := range n {
		d.hosts = append(d.hosts, ident.Host(fmt.Sprintf("lab-%02d", i+1)))
	}
	defer func() {
		err = errors.Join(err, d.kids.stop())
		if c.Bool("keep") || err != nil {
			a.errorf("kept: %s (logs in %s)", dir, filepath.Join(dir, "logs"))
			return
		}
		err = disk.RemoveAll(disk.OS{}, dir)
	}()
	if err := d.start(ctx); err != nil {
		return orStopped(c.Context, err)
	}
	d.lookAround()
	if c.Bool("once") {
		ctx, cancel = context.WithTimeout(ctx, c.Duration("timeout"))
		defer cancel()
	}
	return orStopped(c.Context, d.watch(ctx, c.Bool("once")))
}

// orStopped turns the error of an interrupted demo into success.
func orStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// start starts everything, in the order of an installation.
func (d *demo) start(ctx context.Context) error {
	if err := (disk.OS{}).Mkdir(filepath.Join(d.dir, "logs"), 0o755); err != nil {
		return err
	}
	if err := d.startReceiver(ctx); err != nil {
		return err
	}
	d.a.printf("receiver started\n")
	for _, h := range d.hosts {
		if err := d.startHost(ctx, h); err != nil {
			return fmt.Errorf("start %s: %w", h, err)
		}
		d.a.printf("%s joined, and records its first episode\n", h)
	}
	d.kids.repeat(ctx, 5*time.Second, "fleet-check", "fleet-check", "--config", d.path("receiver.toml"))
	return nil
}

func (d *demo) startReceiver(ctx context.Context) error {
	serve, authority, err := twoPorts()
	if err != nil {
		return err
	}
	d.url = fmt.Sprintf("https://127.0.0.1:%d", serve)
	conf := fmt.Sprintf(`public_url = %q
listen = "127.0.0.1:%d"
data_dir = %q
operator_file = %q
[authority]
listen = "127.0.0.1:%d"
dir = %q
socket = %q
[limits]
disk_reserve = "64MiB"
[fleet]
silent_after = %q
`, d.url, serve, d.path("receiver"), d.path("operator"), authority, d.path("authority"), d.path("admin.sock"),
		d.fault.silentAfter())
	if err := disk.ReplaceBytes(disk.OS{}, d.path("receiver.toml"), 0o600, []byte(conf)); err != nil {
		return err
	}
	if err := disk.ReplaceBytes(disk.OS{}, d.path("operator"), 0o600, []byte("demo\n")); err != nil {
		return err
	}
	for _, dir := range []string{"receiver", "authority"} {
		if err := (disk.OS{}).Mkdir(d.path(dir), 0o750); err != nil {
			return err
		}
	}
	for _, name := range []string{"bootstrap", "serve"} {
		addr := d.path(name + ".addr")
		if err := d.kids.start(name, name, "--config", d.path("receiver.toml"), "--addr-file", addr); err != nil {
			return err
		}
		if err := d.kids.waitFile(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startHost(ctx context.Context, h ident.Host) error {
	token, err := d.joinToken(ctx, h)
	if err != nil {
		return err
	}
	certs := d.path(string(h), "certs")
	if err := disk.MkdirAll(disk.OS{}, certs, 0o755); err != nil {
		return err
	}
	if err := disk.MkdirAll(disk.OS{}, d.path(string(h), "data"), 0o755); err != nil {
		return err
	}
	if err := disk.ReplaceBytes(disk.OS{}, filepath.Join(certs, "join-token"), 0o600, []byte(token.String()+"\n")); err != nil {
		return err
	}
	conf := fmt.Sprintf(`host = %q
data_dir = %q
certs_dir = %q
[receiver]
url = %q
[authority]
url = %q
[ship]
ping_every = "5s"
[orchestrate]
max_slots = 1
rest = "1s"
disk_reserve = "64MiB"
`, h, d.path(string(h), "data"), certs, token.Receiver, token.Authority)
	path := d.path(string(h), "lab-host.toml")
	if err := disk.ReplaceBytes(disk.OS{}, path, 0o600, []byte(conf)); err != nil {
		return err
	}
	if _, err := d.kids.run(ctx, "cert-fetch-"+string(h), "cert-fetch", "--config", path); err != nil {
		return err
	}
	for _, name := range []string{"ship", "orchestrate"} {
		if err := d.kids.start(name+"-"+string(h), name, "--config", path); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

// twoPorts finds two free ports on the loopback address.
func twoPorts() (first, second int, err error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = l.Close() }() // open until both are known, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}

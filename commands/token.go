package commands

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

func (a *app) tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "let machines join as lab hosts",
		Subcommands: []*cli.Command{{
			Name:      "create",
			Usage:     "create a join token per host, and print the commands to paste on it",
			ArgsUsage: "HOST…|PATTERN",
			Description: "A token is valid for one host name, and for the first machine that uses it. With\n" +
				"--uses it is valid for that many new machines whose names match a pattern. A token\n" +
				"is shown once. Creating another token for a host revokes the older one.\n\nExamples:\n" +
				"   sudo cis490 token create lab-07\n" +
				"   sudo cis490 token create lab-{01..40} --ttl 24h --out /media/stick/join.txt\n" +
				"   sudo cis490 token create 'room12-*' --uses 30\n" +
				"   sudo cis490 token create lab-08 --replaces lab-07",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver),
				&cli.DurationFlag{Name: "ttl", DefaultText: "[authority] token_ttl", Usage: "how long the tokens are valid, as `TIME`"},
				&cli.IntFlag{
					Name: "uses", DefaultText: "one host",
					Usage: "create one token for `N` new hosts with names that match PATTERN; * matches any characters",
				},
				&cli.StringFlag{Name: "replaces", Usage: "decommission `HOST` as soon as the new one has enrolled"},
				&cli.StringFlag{Name: "out", Usage: "write a script for all these machines to `FILE`, which only you can read"},
				&cli.BoolFlag{Name: "json", Usage: "print the tokens without commands, for programs that copy the binary themselves"},
			},
			Action: a.tokenCreate,
		}, {
			Name:        "list",
			Usage:       "list join tokens and their states",
			ArgsUsage:   noArgs,
			Description: "The list has no secrets: the authority stores digests of tokens only.\n\nExample:\n   sudo cis490 token list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.tokenList,
		}, {
			Name:      "revoke",
			Usage:     "revoke a host's join token",
			ArgsUsage: "HOST…|PATTERN",
			Description: "A host that has enrolled keeps its access: see cis490 host decommission.\n\nExample:\n" +
				"   sudo cis490 token revoke lab-07",
			Flags:  []cli.Flag{a.configFlag(roleReceiver)},
			Action: a.tokenRevoke,
		}},
	}
}

func (a *app) tokenCreate(c *cli.Context) error {
	req, err := tokenArgs(c)
	if err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if s := c.String("replaces"); s != "" {
		if req.Replaces, err = ident.ParseHost(s); err != nil {
			return usagef(c, "--replaces: %w", err)
		}
	}
	var offered []manifest.Artifact
	if !c.Bool("json") {
		if offered, err = published(conf, c.String("config")); err != nil {
			return err
		}
	}
	if out := c.String("out"); out != "" { // before older tokens are revoked
		if err := checkWritable(out); err != nil {
			return err
		}
	}
	made, err := authority.NewClient(conf.Authority.Socket).CreateTokens(c.Context, req)
	if err != nil {
		return err
	}
	for _, m := range made {
		if m.Voided {
			a.errorf("warning: revoked the older token of %s", owner(m))
		}
		if m.Active {
			a.errorf("warning: %s is an active host: the machine that uses this token replaces it, and its certificate is revoked then", m.Host)
		}
	}
	target := *a
	var text strings.Builder
	if c.String("out") != "" {
		target.env.Out = &text
	}
	switch {
	case c.Bool("json"):
		err = target.printJSON(made)
	case c.String("out") != "":
		target.printf("%s", joinScript(conf, offered, made))
	default:
		target.printf("%s", joinCommands(conf, offered, made))
	}
	if out := c.String("out"); err == nil && out != "" {
		if err = disk.ReplaceBytes(disk.OS{}, out, 0o600, []byte(text.String())); err == nil {
			a.errorf("wrote %d tokens to %s: anyone who reads it can join under these names", len(made), out)
			if !c.Bool("json") {
				a.errorf("on each new machine: sudo sh %s [NAME]   # without NAME it uses the machine's host name", filepath.Base(out))
			}
		}
	}
	return err
}

// tokenArgs parses the arguments of token create.
func tokenArgs(c *cli.Context) (req authority.TokenRequest, err error) {
	args, err := looseArgs(c)
	if err != nil {
		return req, err
	}
	req.TTL, req.Uses = c.Duration("ttl"), c.Int("uses")
	pattern := len(args) == 1 && strings.Contains(args[0], "*")
	switch {
	case pattern && req.Uses == 0:
		return req, usagef(c, "a token for %s needs --uses", args[0])
	case pattern && c.String("out") != "":
		return req, usagef(c, "--out is for named hosts: one command is enough for a pattern")
	case pattern:
		if req.Pattern, err = ident.ParsePattern(args[0]); err != nil {
			return req, usagef(c, "%w", err)
		}
		return req, nil
	case c.IsSet("uses"):
		return req, usagef(c, "--uses needs one PATTERN in quotes, such as 'room12-*'")
	}
	req.Hosts, err = hostArgs(c)
	return req, err
}

// owner returns the host or the pattern of a token.
func owner(m authority.CreatedToken) string { return string(m.Host) + string(m.Pattern) }

// checkWritable returns an error if a file cannot be written at a path. It keeps an existing
// file.
func checkWritable(path string) error {
	if fi, err := disk.Stat(disk.OS{}, path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("write %s: %w", path, disk.ErrNotRegular)
	}
	probe := path + disk.Partial // the file is written under this name too
	if err := disk.WriteSync(disk.OS{}, probe, 0o600, func(io.Writer) error { return nil }); err != nil {
		return err
	}
	return disk.OS{}.Remove(probe)
}

// published returns the binaries that a new machine can download from this receiver.
func published(conf config.Receiver, path string) ([]manifest.Artifact, error) {
	all, err := offeredBinaries(conf, path)
	if err != nil {
		return nil, err
	}
	var linux []manifest.Artifact
	for _, art := range all {
		if art.OS == "linux" && uname(art.Arch) != "" {
			linux = append(linux, art)
		}
	}
	if len(linux) == 0 {
		return nil, fault.Fix(errors.New("this receiver has published no binary for new machines"),
			"sudo cis490 install receiver   # publishes this binary; or print only the tokens with --json")
	}
	return linux, nil
}

// uname returns the output of uname -m on an architecture.
func uname(arch string) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "386": "i686", "riscv64": "riscv64"}[arch]
}

// joinCommands returns the commands to paste on new machines. They do not verify the
// server's certificate, because a new machine does not know the CA; the digest of the
// binary is checked instead.
func joinCommands(conf config.Receiver, offered []manifest.Artifact, made []authority.CreatedToken) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# On the new machine. It does not know the CA yet, so sha256sum checks the download.\n%s", download(conf, offered))
	for _, m := range made {
		until := plain.Time(m.Expires)
		once := "once"
		if m.Pattern != "" {
			once = fmt.Sprintf("on %d new machines, each by its own name (or --name)", m.Uses)
		}
		fmt.Fprintf(&b, "\n# %s, %s, until %s:\necho %s | sudo ./cis490 install lab-host --join -\n", owner(m), once, until, quote(m.Token))
	}
	return b.String()
}

// quote quotes a token that a shell would expand: an IPv6 address has brackets.
func quote(token string) string {
	if strings.ContainsAny(token, "[*") {
		return "'" + token + "'"
	}
	return token
}

// joinScript returns a script for many new machines, to be carried on a USB stick or copied
// by a tool. Each machine selects its token by its name.
func joinScript(conf config.Receiver, offered []manifest.Artifact, made []authority.CreatedToken) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# On each new machine: sudo sh THIS-FILE [NAME]; without NAME it uses the host name.\n" +
		"# Each token can be used once. Delete this file when the last machine has joined.\n" +
		"name=${1:-$(uname -n)}\ncase $(printf %s \"${name%%.*}\" | tr A-Z a-z) in\n")
	for _, m := range made {
		fmt.Fprintf(&b, "%s) token=%s;; # until %s\n", m.Host, quote(m.Token), plain.Time(m.Expires))
	}
	fmt.Fprintf(&b, "*) echo \"there is no join token for $name in $0\" >&2; exit 1;;\nesac\n"+
		"%s%secho \"$token\" | ./cis490 install lab-host --join -\n", scratch, download(conf, offered))
	return b.String()
}

// download returns shell commands that download the binary for the machine they run on.
func download(conf config.Receiver, offered []manifest.Artifact) string {
	cases := make([]string, 0, len(offered))
	for _, art := range offered {
		cases = append(cases, fmt.Sprintf("%s) d=%s;;", uname(art.Arch), art.Digest))
	}
	url := strings.TrimSuffix(conf.PublicURL, "/") + wire.ReleaseBlobPrefix
	return fmt.Sprintf("case $(uname -m) in %[1]s *) d=none-for-$(uname -m);; esac\n"+
		"if command -v curl >/dev/null; then curl -fsSk --retry 3 -o cis490 %[2]s$d\n"+
		"else wget -q --no-check-certificate -O cis490 %[2]s$d; fi &&\n"+
		"  echo \"$d  cis490\" | sha256sum -c - && chmod +x cis490 || rm -f cis490\n", strings.Join(cases, " "), url)
}

// scratch creates the folder of a join script. The binary must be able to run there:
// hardened machines mount /tmp noexec.
const scratch = `for base in "${TMPDIR:-/tmp}" /var/tmp /root; do
  dir=$(mktemp -d "$base/cis490.XXXXXX") || continue
  printf '#!/bin/sh\n' >"$dir/try" && chmod +x "$dir/try" && "$dir/try" && break
  rm -rf "$dir"; dir=
done
[ -n "$dir" ] || { echo "no temporary folder allows programs to run: TMPDIR=FOLDER sh $0" >&2; exit 1; }
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
`

func (a *app) tokenRevoke(c *cli.Context) error {
	if args := c.Args().Slice(); len(args) > 0 && strings.Contains(args[0], "*") {
		args, err := looseArgs(c)
		if err != nil {
			return err
		}
		p, err := ident.ParsePattern(args[0])
		if err != nil || len(args) > 1 {
			return usagef(c, "want one PATTERN in quotes, such as 'room12-*'")
		}
		conf, err := a.receiver(c)
		if err != nil {
			return err
		}
		if err := authority.NewClient(conf.Authority.Socket).RevokePattern(c.Context, p); err != nil {
			return err
		}
		a.printf("%s: token revoked; hosts that joined with it stay\n", p)
		return nil
	}
	return a.eachHost(c, func(client *authority.Client, h ident.Host) (string, error) {
		return "token revoked", client.RevokeToken(c.Context, h)
	})
}

func (a *app) tokenList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	all, err := authority.NewClient(conf.Authority.Socket).Tokens(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(all)
	}
	return a.table("HOST\tSTATE\tMADE\tEXPIRES\tUSED FROM", func(row func(...any)) {
		for _, t := range all {
			row(t.Name(), t.State, plain.Time(t.Made), plain.Time(t.Expires), t.From)
		}
	})
}

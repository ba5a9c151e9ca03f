package commands

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
	"cis490/receiver/authority"
)

func (a *app) tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "let machines join as lab hosts",
		Subcommands: []*cli.Command{{
			Name:      "create",
			Usage:     "make a join token for each host, and print what to paste there",
			ArgsUsage: "HOST…|PATTERN",
			Description: "A token is good for one host name and for the machine that uses it first. With\n" +
				"--uses it is good for that many new machines whose names match a pattern. It is\n" +
				"shown once. Making another one voids the older.\n\nExamples:\n" +
				"   sudo cis490 token create lab-07\n" +
				"   sudo cis490 token create lab-{01..40} --ttl 24h --out /media/stick/join.txt\n" +
				"   sudo cis490 token create 'room12-*' --uses 30\n" +
				"   sudo cis490 token create lab-08 --replaces lab-07",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver),
				&cli.DurationFlag{Name: "ttl", Usage: "the tokens live for `TIME`; without it, [authority] token_ttl"},
				&cli.IntFlag{Name: "uses", Usage: "one token for `N` new hosts with names like PATTERN, in which * stands for any characters"},
				&cli.StringFlag{Name: "replaces", Usage: "decommission `HOST` as soon as the new one has enrolled"},
				&cli.StringFlag{Name: "out", Usage: "write a script for all these machines to `FILE`, which only you can read, instead of the terminal"},
				&cli.BoolFlag{Name: "json", Usage: "the tokens alone, for programs that bring the binary themselves"},
			},
			Action: a.tokenCreate,
		}, {
			Name:        "list",
			Usage:       "list join tokens and what became of them",
			ArgsUsage:   " ",
			Description: "The tokens themselves are not kept anywhere.\n\nExample:\n   sudo cis490 token list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.tokenList,
		}, {
			Name:        "revoke",
			Usage:       "make a host's open token worthless",
			ArgsUsage:   "HOST…|PATTERN",
			Description: "A host that has enrolled is not touched: see cis490 host decommission.\n\nExample:\n   sudo cis490 token revoke lab-07",
			Flags:       []cli.Flag{a.configFlag(roleReceiver)},
			Action:      a.tokenRevoke,
		}},
	}
}

func (a *app) tokenCreate(c *cli.Context) error {
	ask, err := tokenArgs(c)
	if err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if s := c.String("replaces"); s != "" {
		if ask.Replaces, err = ident.ParseHost(s); err != nil {
			return usagef(c, "--replaces: %w", err)
		}
	}
	var offered []manifest.Artifact
	if !c.Bool("json") {
		if offered, err = published(conf, c.String("config")); err != nil {
			return err
		}
	}
	if out := c.String("out"); out != "" { // before the older tokens are void
		if err := writable(out); err != nil {
			return err
		}
	}
	made, err := authority.At(conf.Authority.Socket).CreateTokens(c.Context, ask)
	if err != nil {
		return err
	}
	for _, m := range made {
		if m.Voided {
			a.errorf("warning: the token that was made for %s before is void now", forWhom(m))
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
		target.printf("%s", script(conf, offered, made))
	default:
		target.printf("%s", paste(conf, offered, made))
	}
	if out := c.String("out"); err == nil && out != "" {
		if err = disk.ReplaceBytes(disk.OS{}, out, 0o600, []byte(text.String())); err == nil {
			a.errorf("%d tokens written to %s: whoever reads it can join under these names", len(made), out)
			if !c.Bool("json") {
				a.errorf("on each new machine: sudo sh %s [NAME]   # without NAME, its host name counts", filepath.Base(out))
			}
		}
	}
	return err
}

// tokenArgs parses the arguments of token create.
func tokenArgs(c *cli.Context) (ask authority.TokenRequest, err error) {
	args, err := looseArgs(c)
	if err != nil {
		return ask, err
	}
	ask.TTL, ask.Uses = c.Duration("ttl"), c.Int("uses")
	pattern := len(args) == 1 && strings.Contains(args[0], "*")
	switch {
	case pattern && ask.Uses == 0:
		return ask, usagef(c, "a token for %s needs --uses", args[0])
	case pattern && c.String("out") != "":
		return ask, usagef(c, "--out is for named hosts: one command is enough for a pattern")
	case pattern:
		if ask.Pattern, err = ident.ParsePattern(args[0]); err != nil {
			return ask, usagef(c, "%w", err)
		}
		return ask, nil
	case c.IsSet("uses"):
		return ask, usagef(c, "--uses needs one PATTERN in quotes, such as 'room12-*'")
	}
	ask.Hosts, err = hostArgs(c)
	return ask, err
}

// forWhom returns the host or the pattern of a token.
func forWhom(m authority.Made) string { return string(m.Host) + string(m.Pattern) }

// writable tells whether a file can be put at a path, and leaves what is there.
func writable(path string) error {
	if fi, err := disk.Stat(disk.OS{}, path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("write %s: %w", path, disk.ErrNotRegular)
	}
	probe := path + disk.Partial // as the file itself will be
	if err := disk.WriteSync(disk.OS{}, probe, 0o600, func(io.Writer) error { return nil }); err != nil {
		return err
	}
	return disk.OS{}.Remove(probe)
}

// published returns the binaries that a new machine can download here.
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
		return nil, fault.Fix(errors.New("no binary is published here that a new machine could download"),
			"sudo cis490 install receiver   # publishes this binary; or pass --json to have the tokens alone")
	}
	return linux, nil
}

// uname returns what uname -m says on an architecture.
func uname(arch string) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7l", "386": "i686", "riscv64": "riscv64"}[arch]
}

// paste returns what a person pastes on new machines. curl, or wget, may take any
// certificate: a new machine cannot know our CA, and the digest beside it
// decides whether what came is run.
func paste(conf config.Receiver, offered []manifest.Artifact, made []authority.Made) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# On the new machine, which does not know our CA yet: sha256sum checks what came.\n%s", download(conf, offered))
	for _, m := range made {
		until := m.Expires.Local().Format(time.RFC1123)
		once := "once"
		if m.Pattern != "" {
			once = fmt.Sprintf("on %d new machines, each by its own name (or --name)", m.Uses)
		}
		fmt.Fprintf(&b, "\n# %s, %s, until %s:\necho %s | sudo ./cis490 install lab-host --join -\n", forWhom(m), once, until, word(m.Token))
	}
	return b.String()
}

// word quotes a token where a shell would expand it: an IPv6 address has brackets.
func word(token string) string {
	if strings.ContainsAny(token, "[*") {
		return "'" + token + "'"
	}
	return token
}

// script returns what many new machines run, each finding its own token by its
// name: for a stick that goes round, or a tool that brings files.
func script(conf config.Receiver, offered []manifest.Artifact, made []authority.Made) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# On each new machine: sudo sh THIS-FILE [NAME]; without NAME its host name counts.\n" +
		"# Each token is good once. Destroy this file when the last machine has joined.\n" +
		"name=${1:-$(uname -n)}\ncase $(printf %s \"${name%%.*}\" | tr A-Z a-z) in\n")
	for _, m := range made {
		fmt.Fprintf(&b, "%s) token=%s;; # until %s\n", m.Host, word(m.Token), m.Expires.Local().Format(time.RFC1123))
	}
	fmt.Fprintf(&b, "*) echo \"there is no join token for $name in $0\" >&2; exit 1;;\nesac\n"+
		"%s%secho \"$token\" | ./cis490 install lab-host --join -\n", scratch, download(conf, offered))
	return b.String()
}

// download returns the lines that bring the binary for the machine they run on.
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

// scratch makes the folder that a join script works in, where the binary can run:
// hardened machines mount /tmp noexec.
const scratch = `for base in "${TMPDIR:-/tmp}" /var/tmp /root; do
  dir=$(mktemp -d "$base/cis490.XXXXXX") || continue
  printf '#!/bin/sh\n' >"$dir/try" && chmod +x "$dir/try" && "$dir/try" && break
  rm -rf "$dir"; dir=
done
[ -n "$dir" ] || { echo "no folder was found that programs can run in: TMPDIR=FOLDER sh $0" >&2; exit 1; }
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
		if err := authority.At(conf.Authority.Socket).RevokePattern(c.Context, p); err != nil {
			return err
		}
		a.printf("%s: its token is worthless now; hosts that joined with it stay\n", p)
		return nil
	}
	return a.eachHost(c, func(ask *authority.Asker, h ident.Host) (string, error) {
		return "its token is worthless now", ask.RevokeToken(c.Context, h)
	})
}

func (a *app) tokenList(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	all, err := authority.At(conf.Authority.Socket).Tokens(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(all)
	}
	return a.table("HOST\tSTATE\tMADE\tEXPIRES\tUSED FROM", func(row func(...any)) {
		for _, t := range all {
			row(t.Name(), t.State, stamp(t.Made), stamp(t.Expires), t.From)
		}
	})
}

// table prints rows in columns.
func (a *app) table(head string, fill func(row func(...any))) error {
	w := tabwriter.NewWriter(a.env.Out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, head) // Flush tells of errors
	fill(func(cells ...any) {
		_, _ = fmt.Fprintf(w, strings.TrimSuffix(strings.Repeat("%v\t", len(cells)), "\t")+"\n", cells...)
	})
	return w.Flush()
}

// stamp is how people are shown a time: local, with its zone.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04 MST")
}

package commands

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
)

// maxJournal bounds the journal in a bundle, in lines.
const maxJournal = "20000"

func (a *app) debugCommand() *cli.Command {
	return &cli.Command{
		Name: "debug", Usage: "collect information about a problem of this machine",
		Subcommands: []*cli.Command{{
			Name: "bundle", Usage: "write status, doctor, config and journal to a file to share", ArgsUsage: noArgs,
			Description: "Writes a .tar.gz without secrets: it contains no keys, tokens or episodes, and masks passwords\n" +
				"and long paths of URLs. It has names and addresses of hosts, so look through it before you\n" +
				"share it.\n\n" +
				"Examples:\n   sudo cis490 debug bundle\n   sudo cis490 debug bundle --out /tmp/lab-07.tar.gz --since 2h",
			Flags: append(roleFlags(),
				&cli.StringFlag{Name: "out", Usage: "write `FILE`, which must not exist (default: cis490-debug-TIME.tar.gz here)"},
				&cli.DurationFlag{Name: "since", Value: 24 * time.Hour, Usage: "include the journal of the last `DURATION`"}),
			Action: a.debugBundle,
		}},
	}
}

func (a *app) debugBundle(c *cli.Context) error {
	places, err := a.roles(c)
	if err != nil && !errors.Is(err, errNoRole) {
		return err
	}
	now := time.Now()
	path := c.String("out")
	if path == "" {
		path = "cis490-debug-" + now.UTC().Format("20060102T150405Z") + ".tar.gz"
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	f, err := disk.OS{}.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.Fix(err, "--out FILE names another file")
	}
	if err != nil {
		return err
	}
	size, err := a.writeBundle(c.Context, f, now, a.parts(places, c.Duration("since")))
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, disk.OS{}.Remove(path))
	}
	a.printf("wrote %s, %s; look through it before you share it\n", path, humanize.IBytes(size))
	return nil
}

// part is a file of a bundle.
type part struct {
	name  string
	write func(ctx context.Context, on *app) error
}

// parts returns the files of a bundle: of the machine, and of each role.
func (a *app) parts(places []roleConfig, since time.Duration) []part {
	all := []part{
		{"version.json", func(_ context.Context, on *app) error { return on.printJSON(a.env.Build) }},
		{"journal.txt", func(ctx context.Context, on *app) error {
			return journalctl(ctx, on.env.Out, on.env.Out,
				"--no-pager", "--utc", "--output=short-full", "--lines="+maxJournal, sinceArg(since), "--unit=cis490-*")
		}},
	}
	for _, p := range places {
		all = append(all,
			part{p.role + "/doctor.json", func(ctx context.Context, on *app) error {
				return on.printJSON(a.examine(ctx, a.checksOf(p, false)))
			}},
			part{p.role + "/status.json", func(ctx context.Context, on *app) error { return on.statusOf(ctx, []roleConfig{p}, true) }},
			part{p.role + "/" + filepath.Base(p.path), func(_ context.Context, on *app) error {
				content, err := disk.ReadFile(disk.OS{}, p.path, disk.Small)
				on.printf("%s", misplaced.ReplaceAll(content, []byte("$1…")))
				return err
			}},
		)
	}
	return all
}

// writeBundle writes the parts as a .tar.gz. It returns their size.
func (a *app) writeBundle(ctx context.Context, w io.Writer, now time.Time, parts []part) (size uint64, err error) {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, p := range parts {
		content := a.masked(ctx, p)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		size += uint64(len(content))
		h := &tar.Header{Name: "cis490-debug/" + p.name, Mode: 0o644, Size: int64(len(content)), ModTime: now, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return 0, err
		}
		if _, err := t.Write(content); err != nil {
			return 0, err
		}
	}
	return size, errors.Join(t.Close(), z.Close())
}

// longPath is a URL whose path may be a secret, as of a webhook.
var longPath = regexp.MustCompile(`(://[^\s/"']+)/[^\s"']*[A-Za-z0-9_-]{16,}[^\s"']*`)

// misplaced is a value in a config where a secret may be in place of a file's name, or under
// a key that no version has. A file's name begins with a slash.
var misplaced = regexp.MustCompile(
	`(?i)([\w-]*(?:secret|token|passw(?:or)?d|credentials|operator|urls|key)(?:_file|_key|_id)?["']?[ \t]*=[ \t]*)` +
		`(?:["']+[^/"'\n]|[^"'\s])[^\n]*`)

// masked returns a part without secrets. If the part fails, its last line is the error.
func (a *app) masked(ctx context.Context, p part) []byte {
	var text bytes.Buffer
	on := *a
	on.env.Out, on.env.Err = &text, &text
	if err := p.write(ctx, &on); err != nil {
		_, _ = fmt.Fprintf(&text, "error: %s\n", check.Sanitize(fault.Text(err), 1000))
	}
	return longPath.ReplaceAll(maskAndEscape(text.Bytes()), []byte("$1/…"))
}

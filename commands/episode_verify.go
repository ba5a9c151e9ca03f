package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

func (a *app) episodeVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "validate episodes: schema, clocks, gaps, labels, row counts",
		ArgsUsage: "EPISODE|DIR|TARBALL…",
		Description: "Reads episodes as a data user does. Prints one line for each valid episode, and every\n" +
			"error with its file and line for each invalid one; exit code 1 then. --all verifies every\n" +
			"episode that the receiver stores, and lists only the invalid ones.\n\n" +
			"Examples:\n   sudo cis490 episode verify 01J9Z3NDEKTSV4RRFFQ69G5FAV\n" +
			"   cis490 episode verify /var/lib/cis490/episodes/lab-01/*.tar.zst\n" +
			"   sudo cis490 episode verify --all",
		Flags:  append(roleFlags(), jsonFlag(), &cli.BoolFlag{Name: "all", Usage: "receiver: verify all stored episodes"}),
		Action: a.episodeVerify,
	}
}

// verified is the result of `episode verify` for one episode.
type verified struct {
	Path    string          `json:"path"`
	Episode ident.EpisodeID `json:"episode"`
	Profile string          `json:"profile"`
	Verdict episode.Verdict `json:"verdict"`
	Rows    map[string]int  `json:"rows"`
	Sound   bool            `json:"sound"`
	Faults  []episode.Fault `json:"faults"`
}

// maxVerified bounds a line of output, in characters. Text from the episode stays on one
// line, so that it cannot forge another episode's result.
const maxVerified = 1000

func (a *app) episodeVerify(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("all") && len(args) > 0:
		return usagef(c, "--all takes no EPISODE")
	case c.Bool("all"):
		return a.verifyAll(c)
	case len(args) == 0:
		return usagef(c, "missing argument EPISODE, DIR or TARBALL")
	}
	all, sound := []verified{}, true
	for _, arg := range args {
		v, err := a.verify(c, arg)
		if err != nil {
			return err
		}
		sound = sound && v.Sound
		all = append(all, v)
		if c.Bool("json") {
			continue
		}
		if v.Sound {
			line := fmt.Sprintf("%s: sound, profile %s, %s, rows %s", v.Path, v.Profile, v.Verdict, rowCounts(v.Rows))
			a.printf("%s\n", check.Sanitize(line, maxVerified))
		}
		a.printFaults(v)
	}
	if c.Bool("json") {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	if !sound {
		return verdict()
	}
	return nil
}

func (a *app) printFaults(v verified) {
	for _, f := range v.Faults {
		a.printf("%s\n", check.Sanitize(fmt.Sprintf("%s: %s", v.Path, f), maxVerified))
	}
}

// verifyAll verifies what the receiver stores, and prints the invalid ones.
func (a *app) verifyAll(c *cli.Context) error {
	rx, ok, err := a.receiverConfig(c)
	if err != nil {
		return err
	}
	if !ok {
		return a.belongsOn(c, roleReceiver)
	}
	back, bad, count := stored(rx, c.String("config")), []verified{}, 0
	for row, err := range back.Index.Since(time.Time{}) {
		if err != nil {
			return err
		}
		if row.Archived {
			continue
		}
		count++
		v := a.verifyStored(c.Context, back, row)
		if c.Err() != nil {
			return c.Err()
		}
		if v.Sound {
			continue
		}
		if bad = append(bad, v); !c.Bool("json") {
			a.printFaults(v)
		}
	}
	if c.Bool("json") {
		err = a.printJSON(bad)
	} else {
		a.printf("%d episodes verified, %d invalid\n", count, len(bad))
	}
	if err == nil && len(bad) > 0 {
		return verdict()
	}
	return err
}

// verifyStored verifies a stored episode. A tarball that cannot be read is a fault.
func (a *app) verifyStored(ctx context.Context, back receiver.Backend, row receiver.Entry) verified {
	o := opened{name: string(row.Episode), path: fmt.Sprintf("%s/%s", row.Host, row.Episode)}
	o, err := unpacked(ctx, o, func() (io.ReadCloser, error) { return back.Episodes.OpenRow(row) })
	if err != nil {
		why := episode.Fault{File: o.name + wire.TarballSuffix, Why: fault.Text(err)}
		return verified{Path: o.path, Episode: row.Episode, Rows: map[string]int{}, Faults: []episode.Fault{why}}
	}
	v := verifyOpened(o)
	if err := o.close(); err != nil {
		v.Sound, v.Faults = false, append(v.Faults, episode.Fault{File: o.path, Why: fault.Text(err)})
	}
	return v
}

// rowCounts formats row counts in a fixed order.
func rowCounts(rows map[string]int) string {
	var all []string
	for _, source := range slices.Sorted(maps.Keys(rows)) {
		all = append(all, fmt.Sprintf("%s %d", source, rows[source]))
	}
	return strings.Join(all, ", ")
}

func (a *app) verify(c *cli.Context, arg string) (v verified, err error) {
	o, err := a.openEpisode(c, arg)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	return verifyOpened(o), nil
}

func verifyOpened(o opened) verified {
	m, faults := episode.Verify(o.files)
	if id, err := ident.ParseEpisodeID(o.name); err == nil && m.Episode != "" && m.Episode != id {
		faults = append(faults, episode.Fault{File: episode.MetaFile, Why: fmt.Sprintf("is of episode %s", m.Episode)})
	}
	if faults == nil {
		faults = []episode.Fault{}
	}
	if m.Rows == nil {
		m.Rows = map[string]int{}
	}
	return verified{
		Path: o.path, Episode: m.Episode, Profile: m.Profile, Verdict: m.Verdict, Rows: m.Rows, Sound: len(faults) == 0, Faults: faults,
	}
}

package commands

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

func (a *app) episodeVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "tell whether episodes are sound: schema, clocks, gaps, labels, row counts",
		ArgsUsage: "DIR|TARBALL…",
		Description: "Reads episodes as a data user would. Prints one line for each that is sound, and\n" +
			"every fault with its file and line for each that is not; exit code 1 then.\n\n" +
			"Examples:\n   cis490 episode verify /var/lib/cis490/data/episodes/01K…\n" +
			"   cis490 episode verify /var/lib/cis490/episodes/lab-01/*.tar.zst",
		Flags:  []cli.Flag{jsonFlag()},
		Action: a.episodeVerify,
	}
}

// verified is what `episode verify` tells of one episode.
type verified struct {
	Path    string          `json:"path"`
	Episode ident.EpisodeID `json:"episode"`
	Profile string          `json:"profile"`
	Verdict episode.Verdict `json:"verdict"`
	Rows    map[string]int  `json:"rows"`
	Sound   bool            `json:"sound"`
	Faults  []episode.Fault `json:"faults"`
}

func (a *app) episodeVerify(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef(c, "missing argument DIR or TARBALL")
	}
	all, sound := []verified{}, true
	for _, path := range c.Args().Slice() {
		v, err := verify(path)
		if err != nil {
			return err
		}
		sound = sound && v.Sound
		all = append(all, v)
		if c.Bool("json") {
			continue
		}
		if v.Sound {
			a.printf("%s: sound, profile %s, %s, rows %s\n", v.Path, v.Profile, v.Verdict, rowCounts(v.Rows))
		}
		for _, f := range v.Faults {
			a.printf("%s: %s\n", v.Path, f)
		}
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

// rowCounts lists row counts in a fixed order.
func rowCounts(rows map[string]int) string {
	var all []string
	for _, source := range slices.Sorted(maps.Keys(rows)) {
		all = append(all, fmt.Sprintf("%s %d", source, rows[source]))
	}
	return strings.Join(all, ", ")
}

func verify(path string) (v verified, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return v, fmt.Errorf("verify episode: %w", err)
	}
	name, isTarball := strings.CutSuffix(filepath.Base(path), wire.TarballSuffix)
	if !fi.IsDir() && !isTarball {
		return v, fault.Exit(fmt.Errorf("verify episode: %s is neither a folder nor a %s", path, wire.TarballSuffix), fault.Usage)
	}
	dir := path
	if isTarball && !fi.IsDir() {
		if dir, err = os.MkdirTemp("", "cis490-verify-"); err != nil {
			return v, fmt.Errorf("verify episode: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if err := unpack(path, name, dir); err != nil {
			return v, err
		}
	}
	m, faults := episode.Verify(os.DirFS(dir))
	if id, err := ident.ParseEpisodeID(name); err == nil && m.Episode != "" && m.Episode != id {
		faults = append(faults, episode.Fault{File: episode.MetaFile, Why: fmt.Sprintf("is of episode %s", m.Episode)})
	}
	if faults == nil {
		faults = []episode.Fault{}
	}
	return verified{Path: path, Episode: m.Episode, Profile: m.Profile, Verdict: m.Verdict, Rows: m.Rows, Sound: len(faults) == 0, Faults: faults}, nil
}

func unpack(path, name, dir string) error {
	id, err := ident.ParseEpisodeID(name)
	if err != nil {
		return fmt.Errorf("verify episode: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify episode: %w", err)
	}
	err = errors.Join(episode.Unpack(f, id, dir), f.Close())
	if err != nil {
		return fmt.Errorf("verify episode %s: %w", path, err)
	}
	return nil
}

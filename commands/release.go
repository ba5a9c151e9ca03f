package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

// The files of a maintainer's keys.
const (
	currentKey = "release.key"
	nextKey    = "next.key"
)

func (a *app) releaseCommand() *cli.Command {
	keys := &cli.StringFlag{
		Name: "keys", Usage: "`DIR` of the maintainer's keys", Value: "~/.config/cis490",
		EnvVars: []string{"CIS490_RELEASE_KEYS"},
	}
	seq := &cli.Uint64Flag{Name: "seq", DefaultText: "none", Usage: "sequence `NUMBER` of the release: see cis490 release list"}
	return &cli.Command{
		Name:  "release",
		Usage: "sign, publish, promote and withdraw releases",
		Description: "The maintainer creates keys once, and signs what 'make dist' built. A published release\n" +
			"goes to the receiver itself, then to one host, a quarter of the hosts, and all, each\n" +
			"stage after the trials of the previous one. See docs/updates.md.",
		Subcommands: []*cli.Command{{
			Name: "keygen", Usage: "create the current and the next signing key", ArgsUsage: noArgs,
			Description: "Keep the folder readable only for you, and keep a copy elsewhere: hosts trust only these\n" +
				"two keys. Existing keys are never replaced. They are minisign keys, so 'minisign -W' can\n" +
				"sign with them.\n\nExample:\n   cis490 release keygen",
			Flags: []cli.Flag{keys}, Action: a.releaseKeygen,
		}, {
			Name: "sign", Usage: "write and sign the manifest of a release directory", ArgsUsage: "DIR",
			Description: "DIR contains cis490-OS-ARCH for each platform and optionally experiment.toml. Missing\n" +
				"keys are created. For a downgrade, sign an older directory again with a higher --seq.\n" +
				"--next signs with the next key, which retires the current one: rename the next key to\n" +
				"the current one afterwards.\n\n" +
				"Example:\n   cis490 release sign --seq 12 --version v1.4.0 --commit $(git rev-parse HEAD) dist/v1.4.0",
			Flags: []cli.Flag{
				keys, seq,
				&cli.StringFlag{Name: "version", Usage: "`VERSION` of the binaries"},
				&cli.StringFlag{Name: "commit", Usage: "`COMMIT` of the binaries"},
				&cli.BoolFlag{Name: "next", Usage: "sign with the next key"},
			},
			Action: a.releaseSign,
		}, {
			Name: "publish", Usage: "publish a signed release directory on this receiver", ArgsUsage: "DIR",
			Description: "The first publication sets the keys that this receiver trusts; hosts get them when\n" +
				"they enroll or renew. Later releases must be signed by that key or its successor.\n\n" +
				"Example:\n   sudo cis490 release publish /media/stick/v1.4.0",
			Flags: []cli.Flag{a.configFlag(roleReceiver)}, Action: a.releasePublish,
		}, {
			Name: "list", Usage: "list releases and their progress", ArgsUsage: noArgs,
			Description: "Example:\n   sudo cis490 release list",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()}, Action: a.releaseList,
		}, {
			Name: "promote", Usage: "advance a release to its next stage now", ArgsUsage: "[VERSION]",
			Description: "With --force the release is offered to all hosts, even after a withdrawal.\n\n" +
				"Example:\n   sudo cis490 release promote v1.4.0",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver), seq,
				&cli.BoolFlag{Name: "force", Usage: "offer it to all hosts, whatever the results of trials"},
			},
			Action: func(c *cli.Context) error {
				return a.releaseOrder(c, manifest.Order{Verb: manifest.OrderPromote, Force: c.Bool("force")})
			},
		}, {
			Name: "withdraw", Usage: "stop offering a release", ArgsUsage: "[VERSION]",
			Description: "Hosts that run it keep it, and continue to ship. To replace it, publish a release with a higher seq.\n" +
				"Use --block for a release that recorded wrong data: its episodes are rejected from now on.\n\n" +
				"Example:\n   sudo cis490 release withdraw v1.4.0 --reason 'labels are late'",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver), seq,
				&cli.BoolFlag{Name: "block", Usage: "also make the gate reject its commit"},
				&cli.StringFlag{Name: "reason", Usage: "the reason `WHY`, as release list shows it"},
			},
			Action: func(c *cli.Context) error {
				return a.releaseOrder(c, manifest.Order{Verb: manifest.OrderWithdraw, Block: c.Bool("block"), Reason: c.String("reason")})
			},
		}},
	}
}

// keyDir returns the folder of the maintainer's keys.
func (a *app) keyDir(c *cli.Context) string {
	dir := c.String("keys")
	if rest, ok := strings.CutPrefix(dir, "~/"); ok {
		dir = filepath.Join(a.env.Getenv("HOME"), rest)
	}
	return dir
}

func (a *app) releaseKeygen(c *cli.Context) error {
	dir := a.keyDir(c)
	made, err := makeKeys(dir)
	if err != nil {
		return err
	}
	if made == 0 {
		a.errorf("keys exist in %s; not changed", dir)
	}
	for _, name := range []string{currentKey, nextKey} {
		k, err := readSecret(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		a.printf("%s  %s\n", k.Public(), filepath.Join(dir, name))
	}
	return nil
}

// makeKeys creates the missing keys.
func makeKeys(dir string) (made int, err error) {
	if err := disk.MkdirAll(disk.OS{}, dir, 0o700); err != nil {
		return 0, err
	}
	for _, name := range []string{currentKey, nextKey} {
		path := filepath.Join(dir, name)
		if disk.Exists(disk.OS{}, path) {
			continue
		}
		k, content, err := manifest.NewKey()
		if err != nil {
			return made, err
		}
		public, err := k.Public().File()
		if err != nil {
			return made, err
		}
		if err := disk.ReplaceBytes(disk.OS{}, strings.TrimSuffix(path, ".key")+".pub", 0o644, public); err != nil {
			return made, err
		}
		if err := disk.ReplaceBytes(disk.OS{}, path, 0o600, content); err != nil {
			return made, err
		}
		made++
	}
	return made, nil
}

func readSecret(path string) (manifest.SecretKey, error) {
	b, err := disk.ReadFile(disk.OS{}, path, 1<<16)
	if err != nil {
		return manifest.SecretKey{}, fault.Fix(err, "cis490 release keygen")
	}
	k, err := manifest.ParseSecretKey(b, "")
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func (a *app) releaseSign(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "missing argument DIR")
	}
	if c.Uint64("seq") == 0 || c.String("version") == "" {
		return usagef(c, "missing --seq NUMBER (higher than all before) or --version VERSION")
	}
	commit, err := ident.ParseCommit(c.String("commit"))
	if err != nil {
		return usagef(c, "--commit: %w", err)
	}
	dir, keys := args[0], a.keyDir(c)
	m := manifest.Manifest{V: 1, Product: manifest.Product, Seq: c.Uint64("seq"), Version: c.String("version"), Commit: commit}
	if err := describe(dir, &m); err != nil {
		return err
	}
	if made, err := makeKeys(keys); err != nil {
		return err
	} else if made > 0 {
		a.errorf("created %d signing keys in %s: keep the folder readable only for you, and a copy elsewhere", made, keys)
	}
	current, err := readSecret(filepath.Join(keys, currentKey))
	if err != nil {
		return err
	}
	next, err := readSecret(filepath.Join(keys, nextKey))
	if err != nil {
		return err
	}
	signer := current
	m.NextKey = next.Public().String()
	if c.Bool("next") {
		signer = next
	}
	encoded, signature, err := signer.Sign(m)
	if err != nil {
		return err
	}
	public, err := signer.Public().File()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{manifest.PublicKeyFile, public}, {manifest.SignatureFile, signature}, {manifest.ManifestFile, encoded}} {
		if err := disk.ReplaceBytes(disk.OS{}, filepath.Join(dir, f.name), 0o644, f.content); err != nil {
			return err
		}
	}
	a.printf("%s: %s, seq %d, binaries: %d, signed by %s\n", dir, m.Version, m.Seq, len(m.Artifacts), signer.Public().ID())
	return nil
}

// describe adds the files of a release directory to a manifest.
func describe(dir string, m *manifest.Manifest) error {
	entries, err := disk.OS{}.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // sorted, so that the manifest is deterministic
		parts := strings.Split(e.Name(), "-")
		if len(parts) != 3 || parts[0] != manifest.Product || !e.Type().IsRegular() {
			continue
		}
		b, err := manifest.Describe(disk.OS{}, filepath.Join(dir, e.Name()), manifest.MaxBinary)
		if err != nil {
			return err
		}
		m.Artifacts = append(m.Artifacts, manifest.Binary{OS: parts[1], Arch: parts[2], Blob: b})
	}
	e, err := manifest.Describe(disk.OS{}, filepath.Join(dir, manifest.ExperimentFile), manifest.MaxExperiment)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := loadExperiment(filepath.Join(dir, manifest.ExperimentFile)); err != nil {
		return err // not a valid experiment
	}
	m.Experiment = &e
	return nil
}

package commands

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/manifest"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/authority"
	"cis490/receiver/local"
	"cis490/receiver/pg"
)

func (a *app) releasePublish(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return usagef(c, "missing argument DIR")
	}
	if len(args) > 1 {
		return usagef(c, "want one release directory, such as %s, not all of %s",
			check.Sanitize(args[len(args)-1], 300), check.Sanitize(strings.Join(args, ", "), 300))
	}
	if info, err := (disk.OS{}).Stat(args[0]); err != nil || !info.IsDir() {
		return fault.Fix(fmt.Errorf("%s is not a folder on this machine", check.Sanitize(args[0], 300)),
			"copy the folder that `make dist` wrote to this machine, and name its path: sudo cis490 release publish DIR")
	}
	if _, err := (disk.OS{}).Stat(filepath.Join(args[0], manifest.ManifestFile)); errors.Is(err, fs.ErrNotExist) {
		return fault.Fix(fmt.Errorf("%s is not a release: it has no %s", check.Sanitize(args[0], 300), manifest.ManifestFile),
			"name the folder VERSION that `make dist` wrote into dist: sudo cis490 release publish dist/VERSION")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if err := withAuthority(c, conf); err != nil {
		return err
	}
	keys := filepath.Join(conf.Authority.Dir, authority.ReleaseKeys)
	ring, err := trusted(keys, args[0])
	if err != nil {
		return err
	}
	b, err := manifest.ReadDirectory(disk.OS{}, args[0], ring)
	if errors.Is(err, manifest.ErrSignature) {
		return fault.Fix(err, "cat "+keys+"   # these keys are believed; a new key must be named by a release that one of them signed")
	}
	if err != nil {
		return err
	}
	to := local.ReleasesDir(conf.DataDir)
	if again, err := b.Same(disk.OS{}, to); err != nil {
		return fault.Fix(err, "cis490 release sign --seq N …   # with a higher one: see cis490 release list")
	} else if again {
		a.printf("%s, seq %d, is published already\n", b.Manifest.Version, b.Manifest.Seq)
		return nil
	}
	all, err := manifest.List(disk.OS{}, to)
	if err != nil {
		return err
	}
	if len(all) > 0 && b.Manifest.Seq < all[0].Manifest.Seq {
		return fault.Fix(fmt.Errorf("seq %d is below %d, which is published: hosts would refuse it", b.Manifest.Seq, all[0].Manifest.Seq),
			fmt.Sprintf("cis490 release sign --seq %d …   # where the keys are, then publish again", all[0].Manifest.Seq+1))
	}
	// Before root's rights are dropped. If a later step fails, these are still the
	// maintainer's keys.
	if after := ring.After(b.Manifest, b.Signer).String(); after != current(keys) {
		if err := disk.ReplaceBytes(disk.OS{}, keys, 0o644, []byte(after)); err != nil {
			return fmt.Errorf("keep release keys: %w", err)
		}
	}
	if err := becomeOwner(to, roleReceiver); err != nil {
		return err
	}
	if err := b.Publish(disk.OS{}, to); err != nil {
		return err
	}
	o := manifest.Order{Verb: manifest.OrderPublish, Seq: b.Manifest.Seq, Version: b.Manifest.Version, Commit: b.Manifest.Commit}
	if err := manifest.Give(disk.OS{}, to, time.Now, o); err != nil {
		return err
	}
	a.printf("published %s, seq %d: this receiver tries it first; see cis490 release list\n", b.Manifest.Version, b.Manifest.Seq)
	return nil
}

// withAuthority returns an error on a receiver whose releases are copies of another one's.
func withAuthority(c *cli.Context, conf config.Receiver) error {
	var peers receiver.Peers
	if conf.Authority.Shared() {
		peers = stored(conf, c.String("config")).Peers
	}
	if copies, err := copiesOf(conf, peers)(); err != nil || !copies {
		return pg.Explain(err)
	}
	words := append([]string{"sudo", c.Command.HelpName}, c.Args().Slice()...)
	return fault.Exit(fault.Fix(receiver.ErrCopies, "on the receiver that has the authority: "+strings.Join(words, " ")), fault.Config)
}

// trusted returns the keys whose releases this receiver accepts: the known ones or, at
// the first time, the key that comes with the release.
func trusted(keys, dir string) (manifest.Keyring, error) {
	text := current(keys)
	if text == "" {
		b, err := disk.ReadFile(disk.OS{}, filepath.Join(dir, manifest.PublicKeyFile), 1<<16)
		if err != nil {
			return nil, fault.Fix(
				fmt.Errorf("read the release's public key: %w", err), "cis490 release sign …   # where the maintainer's keys are: writes it",
			)
		}
		text = string(b)
	}
	return manifest.ParseKeyring(text)
}

func current(keys string) string {
	b, err := disk.ReadFile(disk.OS{}, keys, 1<<16)
	if err != nil {
		return ""
	}
	return string(b)
}

func (a *app) releaseList(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	list, err := progressOf(local.ReleasesDir(conf.DataDir))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		a.printf("no signed release is published: hosts stay on the version they were installed with\n")
		return nil
	}
	return a.table("SEQ\tVERSION\tSTAGE\tSINCE\tCANARY\tPROVEN ON\tFAILED ON\tWHY", func(row func(...any)) {
		for _, p := range list {
			var canaries []string
			for _, h := range p.Canaries {
				canaries = append(canaries, string(h))
			}
			stage := cmp.Or(string(p.Stage), "-")
			if p.Blocked {
				stage += ", blocked"
			}
			row(
				p.Seq, p.Version, stage, plain.Time(p.Since), cmp.Or(strings.Join(canaries, " "), "-"), len(p.Clean), len(p.RolledBack),
				cmp.Or(p.Reason, "-"),
			)
		}
	})
}

// releaseOrder records a person's order; serve carries it out.
func (a *app) releaseOrder(c *cli.Context, o manifest.Order) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	o.Seq = c.Uint64("seq")
	if len(args) > 1 || (len(args) == 1) == (o.Seq != 0) {
		return usagef(c, "want one VERSION, or --seq NUMBER, as cis490 release list has them")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if err := withAuthority(c, conf); err != nil {
		return err
	}
	dir := local.ReleasesDir(conf.DataDir)
	all, err := manifest.List(disk.OS{}, dir)
	if err != nil {
		return err
	}
	for _, p := range all {
		if len(args) == 1 && p.Manifest.Version == args[0] { // the newest, if a version was published again
			o.Seq = p.Manifest.Seq
		}
		if p.Manifest.Seq != o.Seq {
			continue
		}
		if err := becomeOwner(dir, roleReceiver); err != nil {
			return err
		}
		o.Version, o.Commit = p.Manifest.Version, p.Manifest.Commit
		if err := manifest.Give(disk.OS{}, dir, time.Now, o); err != nil {
			return err
		}
		a.printf("%s, seq %d: %s ordered; serve carries it out within seconds\n", o.Version, o.Seq, o.Verb)
		return nil
	}
	which := fmt.Sprintf("with seq %d", o.Seq)
	if len(args) == 1 {
		which = "of version " + check.Sanitize(args[0], 80)
	}
	return fault.Fix(fmt.Errorf("no release %s is published", which), "sudo cis490 release list")
}

// offeredBinaries returns the binaries for new machines: those of the current release
// and, for other platforms, the receiver's own.
func offeredBinaries(conf config.Receiver, path string) ([]manifest.Artifact, error) {
	dir := local.ReleasesDir(conf.DataDir)
	own := installDir
	if path != config.ReceiverPath { // not this receiver's experiment
		own = dir
	}
	all, err := manifest.ReadUnsigned(disk.OS{}, own)
	if err != nil {
		return nil, err
	}
	best, ok, err := manifest.Best(disk.OS{}, dir)
	if err != nil || !ok {
		return all, err
	}
	keys, err := keysFrom(filepath.Join(conf.Authority.Dir, authority.ReleaseKeys))()
	if err != nil {
		return all, err
	}
	ring, err := manifest.ParseKeyring(keys)
	if err != nil {
		return all, err
	}
	// New machines run these commands as root, but serve's user owns the folder of
	// releases.
	m, _, err := ring.Open([]byte(best.Offer.Manifest), []byte(best.Offer.Signature))
	if err != nil {
		return all, nil
	}
	for _, b := range m.Artifacts {
		all = manifest.With(all, manifest.Artifact{
			OS: b.OS, Arch: b.Arch, Version: m.Version, Commit: m.Commit, Digest: b.Digest, Size: b.Size,
		})
	}
	return all, nil
}

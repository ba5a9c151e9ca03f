package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
)

// opened is an episode whose files are readable as a folder.
type opened struct {
	name  string // of the folder or tarball, without its suffix
	path  string // of the folder or tarball
	files fs.FS
	close func() error
}

// openEpisode opens an episode by folder, tarball, or id on this machine.
func (a *app) openEpisode(c *cli.Context, arg string) (opened, error) {
	if id, ok := namesID(arg); ok {
		return a.openByID(c, id)
	}
	return openPath(c.Context, arg)
}

// namesID reports whether an argument is an id, and not a folder of that name.
func namesID(arg string) (ident.EpisodeID, bool) {
	id, err := ident.ParseEpisodeID(arg)
	if err != nil {
		return "", false
	}
	return id, !disk.Exists(disk.OS{}, arg)
}

func (a *app) openByID(c *cli.Context, id ident.EpisodeID) (opened, error) {
	at, err := a.roles(c)
	if err != nil {
		return opened{}, err
	}
	for _, p := range at {
		if o, found, err := openObject(c.Context, p, id); found || err != nil {
			return o, err
		}
		places, err := placesOf(p, id)
		if err != nil {
			return opened{}, err
		}
		for _, place := range places {
			if _, err := (disk.OS{}).Lstat(place); err == nil {
				return openPath(c.Context, place)
			}
		}
	}
	return opened{}, fault.Fix(fmt.Errorf("the files of episode %s are not on this machine, or not readable for this user", id),
		"sudo cis490 episode list --shipped; or pass its folder or tarball")
}

// placesOf returns where a role may have an episode: complete folders first, because the
// tarball was made from them.
func placesOf(p roleConfig, id ident.EpisodeID) (all []string, err error) {
	if p.role == roleReceiver {
		conf, _, err := config.LoadReceiver(p.path)
		if err != nil {
			return nil, err
		}
		return local.Tarballs(disk.OS{}, conf.DataDir, id)
	}
	conf, _, err := config.LoadLabHost(p.path)
	for _, place := range []string{
		"episodes/" + string(id) + "/" + episode.DoneMarker,
		"quarantine/" + string(id) + "/episode/" + episode.DoneMarker,
		"outbox/" + string(id) + wire.TarballSuffix,
		"quarantine/" + string(id) + "/" + string(id) + wire.TarballSuffix,
		"shipped/" + string(id) + wire.TarballSuffix,
	} {
		all = append(all, filepath.Join(conf.DataDir, place))
	}
	return all, err
}

func openPath(ctx context.Context, path string) (o opened, err error) {
	path = strings.TrimSuffix(path, "/"+episode.DoneMarker)
	fi, err := (disk.OS{}).Lstat(path)
	if err != nil {
		return o, fmt.Errorf("open episode: %w", err)
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return o, fault.Exit(fault.Fix(fmt.Errorf("open episode: %s is a symlink", path),
			"pass its target: readlink -f "+path), fault.Usage)
	}
	name, isTarball := strings.CutSuffix(filepath.Base(path), wire.TarballSuffix)
	o = opened{name: name, path: path, close: func() error { return nil }}
	if fi.IsDir() {
		o.files = episode.Folder(disk.OS{}, path)
		return o, nil
	}
	if !isTarball {
		return o, fault.Exit(fmt.Errorf("open episode: %s is neither a folder nor a %s", path, wire.TarballSuffix), fault.Usage)
	}
	return unpacked(ctx, o, func() (io.ReadCloser, error) {
		return (disk.OS{}).OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}

// openObject opens an episode whose tarball is in an object store; found is false if this
// receiver has none, or not this episode.
func openObject(ctx context.Context, p roleConfig, id ident.EpisodeID) (o opened, found bool, err error) {
	if p.role != roleReceiver {
		return o, false, nil
	}
	conf, _, err := config.LoadReceiver(p.path)
	if err != nil || conf.Store.Backend != config.StoreS3 {
		return o, false, err
	}
	back := stored(conf, p.path)
	for f, err := range back.Index.Before(receiver.Query{Episode: id}) {
		if err != nil {
			return o, false, err
		}
		if !f.Match {
			continue
		}
		o = opened{name: string(id), path: fmt.Sprintf("%s/%s in %s", f.Row.Host, id, conf.Store.S3.Bucket), close: func() error { return nil }}
		o, err = unpacked(ctx, o, func() (io.ReadCloser, error) { return back.Episodes.OpenRow(f.Row) })
		return o, true, err
	}
	return o, false, nil
}

// unpacked unpacks a tarball into a temporary folder, which close removes.
func unpacked(ctx context.Context, o opened, open func() (io.ReadCloser, error)) (opened, error) {
	dir, err := os.MkdirTemp("", "cis490-episode-")
	if err != nil {
		return o, fmt.Errorf("open episode: %w", err)
	}
	remove := func() error { return disk.RemoveAll(disk.OS{}, dir) }
	if err := unpack(ctx, o, open, dir); err != nil {
		return o, errors.Join(err, remove())
	}
	// Readers may not stop in time when the program is asked to stop.
	stop := context.AfterFunc(ctx, func() { _ = remove() })
	o.close = func() error {
		stop()
		return remove()
	}
	o.files = episode.Folder(disk.OS{}, dir)
	return o, nil
}

func unpack(ctx context.Context, o opened, open func() (io.ReadCloser, error), dir string) error {
	id, err := ident.ParseEpisodeID(o.name)
	if err != nil {
		return fmt.Errorf("open episode: %w", err)
	}
	f, err := open()
	if err != nil {
		return fmt.Errorf("open episode: %w", err)
	}
	err = errors.Join(episode.Unpack(ctx, disk.OS{}, f, id, dir), f.Close())
	if err != nil {
		return fmt.Errorf("open episode %s: %w", o.path, err)
	}
	return nil
}

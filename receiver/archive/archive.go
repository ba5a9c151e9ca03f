// Package archive copies old tarballs out of the receiver's store, for `cis490
// archive`. It only reads the store: that an episode is archived is
// noted, and its tarball removed, by serve, which writes the store's files.
//
// Each copy is written beside its name, made durable, read back and compared by
// digest, then named, and only then is serve asked. So after a crash at any moment
// an episode is where it was, or in both places, or archived; the next run goes on
// from there. A file that is at the target with other content is never
// overwritten, and a target within the store, or not writable, is refused.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// How much is copied before serve is asked to let go of it.
const (
	batchFiles = 500
	batchBytes = 1 << 30
)

// Options describe a run.
type Options struct {
	Backend receiver.Backend
	FS      disk.FS   // has the target
	To      string    // the folder that gets HOST/EPISODE.tar.zst
	Before  time.Time // episodes that were stored before are moved
	// Archive asks serve to note copies and to remove its tarballs, and returns
	// those that it did that for.
	Archive func(context.Context, ident.Host, []wire.Pair) ([]ident.EpisodeID, error)
	Limit   int64        // of a tarball, in bytes: a larger one stays
	DryRun  bool         // only count
	Moved   func(Result) // is told how far it is; may be nil
}

// Result is what a run did.
type Result struct {
	Episodes int      `json:"episodes"`
	Bytes    int64    `json:"bytes"`
	Left     []string `json:"left,omitempty"` // HOST/EPISODE and why it stays
}

// Check refuses a target that a run could not use.
func Check(dataDir, to string) error {
	data, err := disk.OS{}.Real(dataDir)
	if err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	target, err := disk.OS{}.Real(to)
	if err != nil {
		return fault.Fix(fmt.Errorf("find the target: %w", err), "mount the disk, or: sudo mkdir "+to)
	}
	if rel, err := filepath.Rel(data, target); err != nil || rel == "." || filepath.IsLocal(rel) {
		return fault.Fix(fmt.Errorf("%s lies within the store %s", to, dataDir), "name a folder on another disk")
	}
	probe := filepath.Join(target, ".cis490-archive")
	if err := disk.ReplaceBytes(disk.OS{}, probe, 0o600, nil); err != nil {
		return fault.Fix(fmt.Errorf("write to the target: %w", err), "ls -ld "+to+"; findmnt -T "+to)
	}
	return disk.OS{}.Remove(probe)
}

// Run moves what is old enough, host by host. Its result also counts what was done
// before an error.
func Run(ctx context.Context, o Options) (Result, error) {
	r := run{Options: o}
	// Two runs would write over each other's copies: the one could name what the
	// other has just begun, and serve let go of the whole.
	lease, err := o.Backend.Lease(receiver.Moving)
	if errors.Is(err, receiver.ErrLeased) {
		err = fault.Exit(fault.Fix(fmt.Errorf("another archive is at work: %w", err), "wait for its end, then again"), fault.TempFail)
	}
	if err != nil {
		return r.done, err
	}
	defer func() { _ = lease.Close() }() // a lease has nothing to lose
	batch := copied{sizes: map[ident.EpisodeID]int64{}}
	for e, err := range o.Backend.Episodes.List(ctx) {
		if batch.host != e.Host && err == nil {
			if err := r.letGo(ctx, &batch); err != nil {
				return r.done, fmt.Errorf("archive %s: %w", batch.host, err)
			}
			batch.host = e.Host
		}
		if err == nil {
			err = r.episode(ctx, &batch, e)
		}
		if notOurs(err) { // the host's folder; the other hosts' are moved
			r.done.Left = append(r.done.Left, fmt.Sprintf("%s: %s", e.Host, err))
		} else if err != nil {
			return r.done, fmt.Errorf("archive %s: %w", e.Host, err)
		}
	}
	if err := r.letGo(ctx, &batch); err != nil {
		return r.done, fmt.Errorf("archive %s: %w", batch.host, err)
	}
	return r.done, nil
}

type run struct {
	Options
	done Result
}

// copied is what waits for serve to let go of it: episodes of one host.
type copied struct {
	host  ident.Host
	pairs []wire.Pair
	sizes map[ident.EpisodeID]int64
	bytes int64
}

func (r *run) episode(ctx context.Context, batch *copied, e receiver.Stored) error {
	switch {
	case !e.At.Before(r.Before):
		return nil
	case e.Err != nil:
		r.leave(e.Host, e.Episode, e.Err)
		return nil
	case e.Size > r.Limit:
		r.leave(e.Host, e.Episode, fmt.Errorf("larger than limits.episode_size, %d bytes", r.Limit))
		return nil
	case r.DryRun:
		r.done.Episodes++
		r.done.Bytes += e.Size
		return nil
	}
	to := filepath.Join(r.To, string(e.Host))
	if err := disk.MkdirAll(r.FS, to, 0o750); err != nil {
		return err
	}
	d, err := r.copy(e.Key, filepath.Join(to, string(e.Episode)+wire.TarballSuffix))
	switch {
	case errors.Is(err, errOther), errors.Is(err, errNoCopy), notOurs(err):
		r.leave(e.Host, e.Episode, err)
		return nil
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	}
	batch.pairs = append(batch.pairs, wire.Pair{Episode: e.Episode, Digest: d})
	batch.sizes[e.Episode] = e.Size
	if batch.bytes += e.Size; len(batch.pairs) >= batchFiles || batch.bytes >= batchBytes {
		return r.letGo(ctx, batch)
	}
	return nil
}

// notOurs reports whether an error is about a name that serve did not make: a link,
// a pipe, a file that another user owns, or one without end.
func notOurs(err error) bool {
	return errors.Is(err, disk.ErrNotRegular) || errors.Is(err, disk.ErrLink)
}

// leave notes an episode that stays in the store, and why.
func (r *run) leave(h ident.Host, id ident.EpisodeID, why error) {
	r.done.Left = append(r.done.Left, fmt.Sprintf("%s/%s: %s", h, id, why))
}

// letGo makes the copies' names durable and asks serve to let go of the tarballs.
func (r *run) letGo(ctx context.Context, b *copied) error {
	if len(b.pairs) == 0 {
		return nil
	}
	h, to := b.host, filepath.Join(r.To, string(b.host))
	// The target too: the host's folder may be of a run that failed to make it durable.
	if err := errors.Join(r.FS.SyncDir(r.To), r.FS.SyncDir(to)); err != nil {
		return err
	}
	done, err := r.Archive(ctx, h, b.pairs)
	if err != nil {
		return err
	}
	for _, id := range done {
		r.done.Episodes++
		r.done.Bytes += b.sizes[id]
		delete(b.sizes, id)
	}
	for id := range b.sizes {
		r.done.Left = append(r.done.Left, fmt.Sprintf("%s/%s: serve has it with another digest, or is still at it", h, id))
	}
	*b = copied{host: h, sizes: map[ident.EpisodeID]int64{}}
	if r.Moved != nil {
		r.Moved(r.done)
	}
	return nil
}

var (
	errOther  = errors.New("a file with other content is at the target")
	errNoCopy = errors.New("what is at the target is no file of its own")
)

// errGone reports a tarball that was archived after it was listed.
var errGone = errors.New("the tarball is gone")

// copy makes a copy that is compared with what was read, and returns its digest.
// Its name is not durable yet.
func (r *run) copy(k receiver.Key, to string) (_ ident.Digest, err error) {
	from, err := r.Backend.Episodes.Open(k)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = from.Close() }() // only read
	if fi, err := r.FS.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return "", err
		}
		// Through a symlink or a bind mount it would be compared with itself.
		if !fi.Mode().IsRegular() || sameFile(fi, from) {
			return "", fmt.Errorf("%w: %s", errNoCopy, to)
		}
		there, err1 := r.digest(to)
		here, err2 := r.read(from, io.Discard)
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		if there != here {
			return "", fmt.Errorf("%w: %s", errOther, to)
		}
		return here, r.sync(to)
	}
	partial := to + disk.Partial
	var want ident.Digest
	err = disk.WriteSync(r.FS, partial, 0o640, func(w io.Writer) (err error) {
		want, err = r.read(from, w)
		return err
	})
	if err != nil {
		return "", err
	}
	got, err := r.digest(partial)
	if err == nil && got != want {
		err = fmt.Errorf("%s was read back as %s, written was %s", partial, got, want)
	}
	if err == nil {
		err = r.FS.Rename(partial, to)
	}
	if err != nil {
		return "", errors.Join(err, r.FS.Remove(partial))
	}
	return want, nil
}

// sameFile reports whether a name at the target leads to the store's own file.
func sameFile(fi fs.FileInfo, from receiver.Tarball) bool {
	f, ok := from.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	own, err := f.Stat()
	return err != nil || disk.SameFile(fi, own)
}

// sync makes a copy durable that an earlier run has left.
func (r *run) sync(path string) error {
	f, err := r.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (r *run) digest(path string) (ident.Digest, error) {
	f, err := r.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	d, err := r.read(f, io.Discard)
	return d, errors.Join(err, f.Close())
}

// read copies a tarball to w and returns its digest. One that grows meanwhile gets
// another digest than serve has, and stays.
func (r *run) read(from io.Reader, w io.Writer) (ident.Digest, error) {
	sum := sha256.New()
	_, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(from, r.Limit+1))
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), err
}

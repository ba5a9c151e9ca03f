// Package archive copies old tarballs out of the receiver's store, for `cis490 archive`.
// It only reads the store. serve, which writes the store's files, records that an episode
// is archived, and removes its tarball.
//
// A copy is written under a temporary name, synced, read back and compared by digest, and
// renamed; only then serve is asked. After a crash an episode is in the store, in both
// places, or archived, and the next run continues. The package never overwrites a file of
// the target that has other content. It refuses a target inside the store, or one that is
// not writable.
//
//storage:files copies in a folder elsewhere
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

// How many tarballs and bytes are copied before serve is asked to remove them.
const (
	batchFiles = 500
	batchBytes = 1 << 30
)

// Options describe a run.
type Options struct {
	Backend receiver.Backend
	FS      disk.FS   // of the target
	To      string    // target folder, which gets HOST/EPISODE.tar.zst
	Before  time.Time // episodes stored before this time are moved
	// Archive asks serve to record the copies and to remove its tarballs. It returns the
	// episodes for which serve did.
	Archive func(context.Context, ident.Host, []wire.Pair) ([]ident.EpisodeID, error)
	Limit   int64        // of a tarball, in bytes: larger ones are not moved
	DryRun  bool         // count only
	Moved   func(Result) // called with the progress; may be nil
}

// Result is the result of a run.
type Result struct {
	Episodes int      `json:"episodes"`
	Bytes    int64    `json:"bytes"`
	Left     []string `json:"left,omitempty"` // HOST/EPISODE and why it was not moved
}

// Check refuses an unusable target.
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
		return fault.Fix(fmt.Errorf("%s is inside the store %s", to, dataDir), "name a folder on another disk")
	}
	probe := filepath.Join(target, ".cis490-archive")
	if err := disk.ReplaceBytes(disk.OS{}, probe, 0o600, nil); err != nil {
		return fault.Fix(fmt.Errorf("write to the target: %w", err), "ls -ld "+to+"; findmnt -T "+to)
	}
	return disk.OS{}.Remove(probe)
}

// Run moves old episodes, host by host. After an error the Result counts what was done
// before.
func Run(ctx context.Context, o Options) (Result, error) {
	r := run{Options: o}
	// Two runs could overwrite each other's copies: one could rename a file that the other
	// has just begun, and serve would remove the tarball.
	lease, err := o.Backend.Lease(receiver.Moving)
	if errors.Is(err, receiver.ErrLeased) {
		err = fault.Exit(
			fault.Fix(fmt.Errorf("another archive is running: %w", err), "wait until it ends, then repeat the command"), fault.TempFail,
		)
	}
	if err != nil {
		return r.done, err
	}
	defer func() { _ = lease.Close() }() // closing a lease loses nothing
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
		if notOurs(err) { // the host's folder; other hosts are moved
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

// copied are copies of one host's episodes that serve was not asked about yet.
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

// notOurs reports whether an error concerns a name that serve did not create: a link, a
// pipe, a file of another user, or an endless one.
func notOurs(err error) bool {
	return errors.Is(err, disk.ErrNotRegular) || errors.Is(err, disk.ErrLink)
}

// leave records that an episode stays in the store, and why.
func (r *run) leave(h ident.Host, id ident.EpisodeID, why error) {
	r.done.Left = append(r.done.Left, fmt.Sprintf("%s/%s: %s", h, id, why))
}

// letGo makes the copies' names durable and asks serve to remove the tarballs.
func (r *run) letGo(ctx context.Context, b *copied) error {
	if len(b.pairs) == 0 {
		return nil
	}
	h, to := b.host, filepath.Join(r.To, string(b.host))
	// The target, too: an earlier run may have failed to make the host's folder durable.
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
	errOther  = errors.New("the target has a file with other content")
	errNoCopy = errors.New("the target is not a regular file of its own")
)

// errGone reports a tarball that was archived after it was listed.
var errGone = errors.New("the tarball was archived meanwhile")

// copy copies a tarball, compares the copy, and returns its digest. The copy's name is
// not durable yet.
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
		err = fmt.Errorf("wrote %s with digest %s, read back %s", partial, want, got)
	}
	if err == nil {
		err = r.FS.Rename(partial, to)
	}
	if err != nil {
		return "", errors.Join(err, r.FS.Remove(partial))
	}
	return want, nil
}

// sameFile reports whether a name of the target is the store's own file.
func sameFile(fi fs.FileInfo, from receiver.Tarball) bool {
	f, ok := from.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	own, err := f.Stat()
	return err != nil || disk.SameFile(fi, own)
}

// sync makes the copy of an earlier run durable.
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

// read copies a tarball to w and returns its digest. If the tarball grows meanwhile, its
// digest differs from serve's, and it stays in the store.
func (r *run) read(from io.Reader, w io.Writer) (ident.Digest, error) {
	sum := sha256.New()
	_, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(from, r.Limit+1))
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), err
}

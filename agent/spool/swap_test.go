package spool_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// nobodys is the user id of the recorder in the tests on a real disk.
const nobodys = 12345

// realSpool is a spool on this machine's disk whose episodes belong to another user,
// beside a folder of secrets.
type realSpool struct {
	*spool.Spool
	t            *testing.T
	dir, secrets string
	stop         chan struct{}
	swapping     sync.WaitGroup
}

const privateKey = "-----BEGIN PRIVATE KEY-----"

func newRealSpool(t *testing.T) *realSpool {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give episodes to another user")
	}
	r := &realSpool{t: t, dir: t.TempDir(), secrets: filepath.Join(t.TempDir(), "certs"), stop: make(chan struct{})}
	r.must(os.Mkdir(r.secrets, 0o700))
	for _, name := range []string{"lab-host.pem", "a", "meta.json", "done.marker"} {
		r.must(os.WriteFile(filepath.Join(r.secrets, name), []byte(privateKey), 0o600))
	}
	r.must(os.Mkdir(r.path("episodes"), 0o770))
	r.give("episodes")
	r.open()
	t.Cleanup(r.halt)
	return r
}

// open opens the spool as the program does.
func (r *realSpool) open() {
	var err error
	r.Spool, err = spool.Open(spool.Options{FS: disk.OS{}, Dir: r.dir, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	r.must(err)
	_, err = r.Recover()
	r.must(err)
}

func (r *realSpool) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *realSpool) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// give gives a tree to the recorder's user.
func (r *realSpool) give(name string) {
	r.must(filepath.WalkDir(r.path(name), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobodys, nobodys))
	}))
}

// record writes a complete episode with a subfolder into a folder of the spool.
func (r *realSpool) record(id ident.EpisodeID, in string) {
	at := filepath.Join(in, string(id))
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: 1, Episode: id, Host: "lab-01",
		Experiment: ident.Digest(strings.Repeat("0", 64)), Verdict: episode.Accepted,
	})
	r.must(errors.Join(err, os.MkdirAll(r.path(at, "sub"), 0o770)))
	for name, content := range map[string]string{"a": "rows", "sub/a": "rows", "meta.json": string(meta), "done.marker": ""} {
		r.must(os.WriteFile(r.path(at, name), []byte(content), 0o660))
	}
	r.give(at)
}

// swap exchanges two names below a folder, by its descriptor, until halt.
func (r *realSpool) swap(dir, a, b string) {
	fd, err := unix.Open(r.path(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	r.must(err)
	r.swapping.Go(func() {
		defer func() { _ = unix.Close(fd) }()
		for {
			select {
			case <-r.stop:
				return
			default:
				_ = unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE) // it may be gone
			}
		}
	})
}

func (r *realSpool) halt() {
	close(r.stop)
	r.swapping.Wait()
	r.stop = make(chan struct{})
}

func (r *realSpool) link(target, name string) {
	r.must(errors.Join(os.Symlink(target, r.path(name)), os.Lchown(r.path(name), nobodys, nobodys)))
}

// TestPack_BesideASwapper: the episode's folder, a folder and a file of it are swapped with
// links to the host's credentials, a thousand times.
func TestPack_BesideASwapper(t *testing.T) {
	for _, what := range []struct{ name, target string }{
		{string(one), "certs"},
		{string(one) + "/sub", "certs"},
		{string(one) + "/a", "certs/lab-host.pem"},
	} {
		r := newRealSpool(t)
		r.record(one, "episodes")
		r.link(filepath.Join(filepath.Dir(r.secrets), what.target), "episodes/.other")
		r.swap("episodes", what.name, ".other")
		p, packed := packing(t), 0
		for range 1000 {
			tarball, err := r.Tarball(t.Context(), p, one)
			if err != nil {
				continue
			}
			packed++
			f, err := r.OpenTarball(one)
			r.must(err)
			b, err := io.ReadAll(f)
			r.must(errors.Join(err, f.Close()))
			r.must(episode.Inspect(bytes.NewReader(b), one, func(name string, _ int64, content io.Reader) error {
				if b, err := io.ReadAll(content); err != nil || bytes.Contains(b, []byte(privateKey)) {
					t.Fatalf("%q of %s holds %q, %v", name, tarball.Digest, b, err)
				}
				return nil
			}))
			r.must(errors.Join(os.Remove(r.path("outbox", string(one)+".tar.zst")), os.Remove(r.path("outbox", string(one)+".json"))))
		}
		r.halt()
		t.Logf("%s: %d of 1000 packed", what.name, packed)
	}
}

// TestRemove_BesideASwapper: while an episode is removed, a folder of it is swapped with a
// link to shipped episodes.
func TestRemove_BesideASwapper(t *testing.T) {
	r := newRealSpool(t)
	const n = 200
	p := packing(t)
	for i := range n {
		id := ident.EpisodeID(fmt.Sprintf("01J%023d", i+1))
		r.record(id, "episodes")
		tarball, err := r.Tarball(t.Context(), p, id)
		r.must(err)
		r.link(r.path("shipped"), "episodes/"+string(id)+"/b")
		r.swap("episodes/"+string(id), "b", "sub")
		err = retireOne(r.Spool, spool.Acknowledged{Tarball: tarball, Receipt: wire.Receipt{
			Episode: id,
			Digest:  tarball.Digest, Size: tarball.Size, StoreID: "s",
		}})
		if err != nil && !errors.Is(err, spool.ErrStuck) {
			t.Fatal(err)
		}
		r.halt()
	}
	found, err := r.Scan(func(ident.EpisodeID) bool { return false })
	r.must(err)
	for _, id := range found.Stuck {
		r.must(r.RetryMove(id))
	}
	rows, err := r.Shipped()
	if err != nil || len(rows) != n {
		t.Errorf("%d receipts, %v; want %d", len(rows), err, n)
	}
	if left, err := os.ReadDir(r.path("shipped")); err != nil || len(left) != n+1 {
		t.Errorf("%d names in shipped, %v; want %d tarballs and the receipts", len(left), err, n)
	}
	if left, err := os.ReadDir(r.path("episodes")); err != nil || len(left) != 0 {
		t.Errorf("left in episodes: %v, %v", left, err)
	}
}

// TestRecover_OldQuarantine: an older version left reason and tarball in the recorder's own
// folder, where the recorder may have replaced them.
func TestRecover_OldQuarantine(t *testing.T) {
	reason := func(r *realSpool, id ident.EpisodeID) []byte {
		b, err := json.Marshal(spool.Reason{Episode: id, Kind: wire.TooLarge, Detail: "because", Policy: "p", Retry: true})
		r.must(err)
		return b
	}
	for name, c := range map[string]struct {
		plant func(r *realSpool, dir string)
		kind  wire.Kind
	}{
		"the shipper's own": {func(r *realSpool, dir string) {
			r.must(os.WriteFile(filepath.Join(dir, episode.ReasonFile), reason(r, one), 0o640))
		}, wire.TooLarge},
		"a pipe": {func(r *realSpool, dir string) { r.must(syscall.Mkfifo(filepath.Join(dir, episode.ReasonFile), 0o640)) }, spool.Unpackable},
		"a link": {func(r *realSpool, dir string) {
			r.must(os.Symlink(filepath.Join(r.secrets, "lab-host.pem"), filepath.Join(dir, episode.ReasonFile)))
		}, spool.Unpackable},
		"the recorder's": {func(r *realSpool, dir string) {
			file := filepath.Join(dir, episode.ReasonFile)
			r.must(errors.Join(os.WriteFile(file, reason(r, one), 0o640), os.Chown(file, nobodys, nobodys)))
		}, spool.Unpackable},
		"another episode's": {func(r *realSpool, dir string) {
			r.must(os.WriteFile(filepath.Join(dir, episode.ReasonFile), reason(r, "01J00000000000000000000002"), 0o640))
		}, spool.Unpackable},
		"a folder": {func(r *realSpool, dir string) {
			r.must(os.MkdirAll(filepath.Join(dir, episode.ReasonFile, "x"), 0o770))
		}, spool.Unpackable},
		"larger than ever": {func(r *realSpool, dir string) {
			r.must(os.Truncate(r.create(filepath.Join(dir, episode.ReasonFile)), 8<<40))
		}, spool.Unpackable},
		"a tarball that is a link": {func(r *realSpool, dir string) {
			r.must(os.Symlink(filepath.Join(r.secrets, "lab-host.pem"), filepath.Join(dir, string(one)+".tar.zst")))
		}, spool.Unpackable},
		"a tarball that is a hard link": {func(r *realSpool, dir string) {
			r.must(os.Link(filepath.Join(r.secrets, "lab-host.pem"), filepath.Join(dir, string(one)+".tar.zst")))
		}, spool.Unpackable},
		"a tarball that is a pipe": {func(r *realSpool, dir string) {
			r.must(syscall.Mkfifo(filepath.Join(dir, string(one)+".tar.zst"), 0o640))
		}, spool.Unpackable},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealSpool(t)
			r.record(one, "quarantine")
			c.plant(r, r.path("quarantine", string(one)))
			r.must(r.Close())
			r.open()
			got, err := r.ReasonOf(one)
			if err != nil || got.Kind != c.kind || got.Detail == "" || c.kind == spool.Unpackable && got.Retry {
				t.Errorf("reason %+v, %v; want %s", got, err, c.kind)
			}
			fi, err := os.Lstat(r.path("quarantine", string(one)))
			r.must(err)
			if uid, _ := disk.Owner(fi); uid != os.Geteuid() || !disk.Exists(disk.OS{}, r.path("quarantine", string(one), "episode", "a")) {
				t.Errorf("the folder belongs to %d, or the recorder's is not in it", uid)
			}
			r.must(r.Release(one))
			tarball, err := r.Tarball(t.Context(), packing(t), one)
			if u, ok := errors.AsType[*episode.Unpackable](err); err != nil && !ok {
				t.Errorf("packed again: %+v, %v, %v", tarball, err, u)
			}
			if b, err := os.ReadFile(r.path("outbox", string(one)+".tar.zst")); err == nil && bytes.Contains(b, []byte("PRIVATE")) {
				t.Error("the key waits in the outbox")
			}
			if b, err := os.ReadFile(filepath.Join(r.secrets, "lab-host.pem")); err != nil || string(b) != privateKey {
				t.Errorf("the key is now %q, %v", b, err)
			}
		})
	}
}

func (r *realSpool) create(name string) string {
	r.must(os.WriteFile(name, nil, 0o640))
	return name
}

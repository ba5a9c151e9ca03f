package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// The users of the tests: the recorder's owns episodes/ and what is below.
const recorder, shipper = 1000, 990

// hostile is the shipper's disk, on which the recorder's user acts before any call: by name
// in episodes/, and by descriptors of its folders wherever they were moved to.
type hostile struct {
	*faultdisk.Disk
	t       *testing.T
	rnd     *rand.Rand
	quiet   bool
	victims []ident.EpisodeID
}

func (h *hostile) attack() {
	if h.quiet || h.rnd.IntN(4) > 0 {
		return
	}
	id := h.victims[h.rnd.IntN(len(h.victims))]
	var at []string
	for _, p := range []string{"episodes/" + string(id), "quarantine/" + string(id) + "/episode", "shipped/" + string(id) + ".removing"} {
		if fi, err := h.Disk.Lstat(path.Join(dir, p)); err == nil && fi.IsDir() {
			at = append(at, path.Join(dir, p))
		}
	}
	episodes := path.Join(dir, "episodes")
	other := path.Join(episodes, string(h.victims[h.rnd.IntN(len(h.victims))]))
	// Each of these may fail: names may be gone.
	if len(at) == 0 {
		_ = h.Symlink("/secret", path.Join(episodes, string(id)))
		_ = h.Chown(path.Join(episodes, string(id)), recorder)
		return
	}
	in := at[h.rnd.IntN(len(at))]
	name := path.Join(in, []string{
		"a", "sub", "sub/b", episode.MetaFile, episode.DoneMarker, episode.ReasonFile,
		string(id) + ".tar.zst",
	}[h.rnd.IntN(7)])
	switch h.rnd.IntN(10) {
	case 0:
		_ = h.Disk.Remove(name)
	case 1:
		_ = errors.Join(h.Disk.Remove(name), h.Symlink("/secret", name))
	case 2:
		_ = errors.Join(h.Disk.Remove(name), h.Mkfifo(name))
	case 3:
		_ = errors.Join(h.Disk.Remove(name), h.Link("/secret/key", name)) // if the kernel allows it
	case 4:
		_ = h.Link(path.Join(dir, "shipped", "receipts.jsonl"), name)
	case 5:
		_ = h.Exchange(path.Join(in, "a"), path.Join(in, "sub"))
	case 6:
		_ = h.Exchange(path.Join(episodes, string(id)), other)
	case 7:
		_ = disk.WriteSync(h.Disk, name, 0o660, func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("more", h.rnd.IntN(1000)))
			return err
		})
	case 8:
		_ = h.Mkdir(name, 0o770)
	case 9:
		_ = errors.Join(h.Disk.Rename(path.Join(episodes, string(id)), path.Join(episodes, "away")), h.Symlink("/secret",
			path.Join(episodes, string(id))))
	}
}

func (h *hostile) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	h.attack()
	f, err := h.Disk.OpenFile(name, flag, perm)
	return file{f, h}, err
}
func (h *hostile) Rename(from, to string) error { h.attack(); return h.Disk.Rename(from, to) }
func (h *hostile) Remove(name string) error     { h.attack(); return h.Disk.Remove(name) }
func (h *hostile) Lstat(name string) (fs.FileInfo, error) {
	h.attack()
	return h.Disk.Lstat(name)
}

func (h *hostile) ReadDir(name string) ([]fs.DirEntry, error) {
	h.attack()
	return h.Disk.ReadDir(name)
}

type file struct {
	disk.File
	h *hostile
}

func (f file) Read(p []byte) (int, error) { f.h.attack(); return f.File.Read(p) }

// TestHostile: whatever the recorder's user does to its episodes, and whenever, a tarball
// contains only its files, the shipper's own files stay unchanged, and the episodes that it
// does not touch arrive where they belong.
func TestHostile(t *testing.T) {
	seeds, steps := 300, 60
	if testing.Short() {
		seeds = 30
	}
	moved := map[string]int{}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 490))
		f := faultdisk.New("/secret", dir, dir+"/episodes", dir+"/outbox", dir+"/shipped", dir+"/quarantine")
		h := &hostile{Disk: f, t: t, rnd: rnd, quiet: true}
		for _, d := range []string{"", "outbox", "shipped", "quarantine"} {
			_ = f.Chown(path.Join(dir, d), shipper)
		}
		_ = f.Chown(path.Join(dir, "episodes"), recorder)
		secret := []byte("-----BEGIN PRIVATE KEY-----")
		if err := errors.Join(disk.ReplaceBytes(f, "/secret/key", 0o600, secret), f.Chown("/secret/key", shipper),
			disk.ReplaceBytes(f, "/secret/done.marker", 0o600, secret)); err != nil {
			t.Fatal(err)
		}
		honest, victims := []ident.EpisodeID{}, []ident.EpisodeID{}
		for n := range 6 {
			id := ident.EpisodeID(fmt.Sprintf("01J%023d", n+1))
			record(t, f, id)
			at := path.Join(dir, "episodes", string(id))
			err := errors.Join(disk.ReplaceBytes(f, path.Join(at, "a"), 0o660, []byte("rows of a")), disk.MkdirAll(f,
				path.Join(at, "sub"), 0o770), disk.ReplaceBytes(f, path.Join(at, "sub/b"), 0o660, []byte("rows of b")))
			if err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				victims = append(victims, id)
			} else {
				honest = append(honest, id)
			}
		}
		h.victims = victims
		s, err := open(h)
		if err != nil {
			t.Fatal(err)
		}
		h.quiet = false
		for range steps {
			h.step(s, victims[rnd.IntN(len(victims))], moved)
			if rnd.IntN(10) == 0 {
				h.step(s, honest[rnd.IntN(len(honest))], moved)
			}
			if rnd.IntN(20) == 0 { // a restart, with power or without
				_ = s.Close()
				if rnd.IntN(2) == 0 {
					f.Reboot(faultdisk.Survive(rnd.IntN(4)))
				}
				if s, err = open(h); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				_, _ = s.Recover() // what is left half done is so again at the next
			}
		}
		h.quiet = true
		h.check(s, secret)
		h.settle(s, honest)
		_ = s.Close()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for _, what := range []string{"pack", "repack", "retire", "quarantine", "release", "discard"} {
		if moved[what] == 0 {
			t.Errorf("no %s went well: that says little", what)
		}
	}
}

// step performs one of the shipper's actions on an episode.
func (h *hostile) step(s *spool.Spool, id ident.EpisodeID, moved map[string]int) {
	ctx, p := h.t.Context(), packing(h.t)
	count := func(what string, err error) {
		if err == nil {
			moved[what]++
		}
	}
	switch h.rnd.IntN(9) {
	case 0, 1, 2:
		t, err := s.Tarball(ctx, p, id)
		count("pack", err)
		if err == nil && h.rnd.IntN(2) == 0 {
			r, err := s.Repack(ctx, p, t)
			count("repack", err)
			if err == nil && r.Content != t.Content && t.Content != "" {
				h.t.Errorf("packed again as %s, first as %s", r.Content, t.Content)
			}
		}
	case 3:
		t, err := s.Tarball(ctx, p, id)
		if err == nil {
			err = retireOne(s, spool.Acknowledged{Tarball: t, Receipt: wire.Receipt{Episode: id, Digest: t.Digest, Size: t.Size, StoreID: "s"}})
			count("retire", err)
		}
	case 4, 5:
		kind := []wire.Kind{wire.OtherDigest, wire.TooLarge, spool.Unpackable, spool.Changed}[h.rnd.IntN(4)]
		count("quarantine", s.Quarantine(spool.Reason{Episode: id, Kind: kind, Detail: "because", Fix: "do"}))
	case 6:
		if _, err := s.ReasonOf(id); err == nil {
			count("release", s.Release(id))
		}
	case 7:
		found, err := s.Scan(func(ident.EpisodeID) bool { return false })
		for _, id := range found.Stuck {
			_ = s.RetryMove(id)
		}
		count("scan", err)
	case 8:
		if _, err := s.ReasonOf(id); err == nil && h.rnd.IntN(4) == 0 && strings.HasSuffix(string(id), "1") {
			count("discard", s.Discard(id))
		}
	}
}

// check asserts that nothing of the shipper's was changed or leaked.
func (h *hostile) check(s *spool.Spool, secret []byte) {
	h.t.Helper()
	for _, name := range []string{"/secret/key", "/secret/done.marker"} {
		if b, err := disk.ReadFile(h.Disk, name, 1<<10); err != nil || !bytes.Equal(b, secret) {
			h.t.Errorf("%s is now %q, %v", name, b, err)
		}
	}
	if _, err := s.Shipped(); err != nil {
		h.t.Errorf("receipts: %v", err)
	}
	for _, place := range []string{"outbox", "shipped"} {
		entries, err := h.Disk.ReadDir(path.Join(dir, place))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), wire.TarballSuffix)
			if !ok {
				continue
			}
			b, err := disk.ReadFile(h.Disk, path.Join(dir, place, e.Name()), 1<<20)
			if err == nil {
				err = episode.Inspect(bytes.NewReader(b), ident.EpisodeID(id), func(name string, _ int64, r io.Reader) error {
					content, err := io.ReadAll(r)
					if bytes.Contains(content, secret) || bytes.Contains(content, []byte("store_id")) || name == episode.ReasonFile {
						return fmt.Errorf("%q holds %q", name, content)
					}
					return err
				})
			}
			if err != nil {
				h.t.Errorf("%s in %s: %v", e.Name(), place, err)
			}
		}
	}
}

// settle asserts that untouched episodes are complete where the shipper put them.
func (h *hostile) settle(s *spool.Spool, honest []ident.EpisodeID) {
	h.t.Helper()
	if _, err := s.Recover(); err != nil {
		h.t.Errorf("recover: %v", err)
	}
	for _, id := range honest {
		var at []string
		for _, p := range []string{"episodes/" + string(id), "quarantine/" + string(id) + "/episode", "shipped", "outbox"} {
			name := path.Join(dir, p, "sub/b")
			if !strings.Contains(p, "/") {
				name = path.Join(dir, p, string(id)+wire.TarballSuffix)
			}
			if disk.Exists(h.Disk, name) {
				at = append(at, p)
			}
		}
		if len(at) == 0 {
			h.t.Errorf("%s is nowhere", id)
		}
		if s.Done(id) || disk.Exists(h.Disk, path.Join(dir, "outbox", string(id)+wire.TarballSuffix)) {
			if _, err := s.Tarball(h.t.Context(), packing(h.t), id); err != nil {
				h.t.Errorf("%s, at %v, cannot be packed: %v", id, at, err)
			}
		}
	}
}

package spool_test

import (
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// TestRepack_GivesWhatWasPackedFirst: a directory that was changed meanwhile does not
// replace the tarball that was sent; another version of the encoder does.
func TestRepack_GivesWhatWasPackedFirst(t *testing.T) {
	f := faultdisk.New("/")
	s, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	record(t, f, one)
	p, at := packing(t), path.Join(dir, "episodes", string(one))
	first, err := s.Tarball(t.Context(), p, one)
	if err != nil {
		t.Fatal(err)
	}
	older := first
	older.Digest = ident.Digest(strings.Repeat("a", 64)) // by an older encoder
	if again, err := s.Repack(t.Context(), p, older); err != nil || again.Content != first.Content || !again.Repacked {
		t.Errorf("the same content by another encoder: %+v, %v", again, err)
	}
	if err := disk.ReplaceBytes(f, path.Join(at, "more"), 0o660, []byte("more")); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Repack(t.Context(), p, first); !errors.Is(err, spool.ErrChanged) {
		t.Fatalf("another content: %+v, %v; want ErrChanged", again, err)
	}
	// With its tarball it is quarantined, and released as it was packed first.
	if err := s.Quarantine(spool.Reason{Episode: one, Kind: spool.Changed, Detail: "because"}); err != nil {
		t.Fatal(err)
	}
	if got := places(f); got != "dir=quarantine tarball=quarantine" {
		t.Errorf("%s, want both in quarantine", got)
	}
	if err := s.Release(one); err != nil {
		t.Fatal(err)
	}
	if t2, err := s.Tarball(t.Context(), p, one); err != nil || t2.Digest != first.Digest {
		t.Errorf("after its release: %+v, %v; want %s", t2, err, first.Digest)
	}
}

// TestScan_OddNames: one bad name does not stop the scan.
func TestScan_OddNames(t *testing.T) {
	r := newRealSpool(t)
	good := ident.EpisodeID("01J00000000000000000000005")
	r.record(good, "episodes")
	in := func(name string) string { return r.path("episodes", name) }
	r.must(errors.Join(
		os.WriteFile(in("01J00000000000000000000001"), nil, 0o660),          // a file
		syscall.Mkfifo(in("01J00000000000000000000002"), 0o660),             // a pipe
		os.Symlink(r.secrets, in("01J00000000000000000000003")),             // a link
		os.Mkdir(in("01J00000000000000000000004"), 0),                       // closed
		os.MkdirAll(in("01J00000000000000000000006/done.marker"), 0o770),    // no marker
		os.Mkdir(in("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), 0o770),                   // of the year 10889
		os.Mkdir(in("\xff\xfe"), 0o770), os.Mkdir(in("a\nb\x1b[2J"), 0o770), // bytes
		os.MkdirAll(in("lost+found"), 0), os.WriteFile(in(".counter"), nil, 0o660),
		os.Symlink("01J00000000000000000000007", in("01J00000000000000000000007")), // to itself
	))
	found, err := r.Scan(func(ident.EpisodeID) bool { return false })
	if err != nil || len(found.Whole) != 1 || found.Whole[0] != good || len(found.Stuck) != 0 {
		t.Errorf("found %+v, %v; want %s alone", found, err, good)
	}
	for _, id := range []ident.EpisodeID{
		"01J00000000000000000000001", "01J00000000000000000000002", "01J00000000000000000000003",
		"01J00000000000000000000007",
	} {
		if r.Done(id) || r.Waits(id) {
			t.Errorf("%s waits", id)
		}
		if it := r.Describe(id); it.Bytes != 0 || it.Commit != "" {
			t.Errorf("%s: %+v", id, it)
		}
		// Even if a swap lets one get this far, only its name is removed.
		r.must(r.SaveReceipts([]spool.Acknowledged{{Tarball: spool.Tarball{Episode: id}, Receipt: wire.Receipt{Episode: id}}}))
		r.must(r.Clear(id))
	}
	if _, err := os.Stat(r.secrets + "/lab-host.pem"); err != nil {
		t.Error(err)
	}
}

// TestScan_ManyNames: a folder full of names does not cost minutes, and neither does a
// folder of an episode.
func TestScan_ManyNames(t *testing.T) {
	r := newRealSpool(t)
	r.record(one, "episodes")
	for n := range 10 {
		name := r.path("episodes", string(one), strings.Repeat("d", n+1))
		r.must(os.Mkdir(name, 0o770))
		for m := range 1100 {
			r.must(os.Link(r.path("episodes", string(one), "a"), path.Join(name, strings.Repeat("x", 1+m%200)+string(rune('a'+m/200)))))
		}
	}
	began := time.Now()
	it := r.Describe(one)
	_, err := r.Tarball(t.Context(), packing(t), one)
	t.Logf("%+v, %v, in %s", it, err, time.Since(began))
	if it.Bytes == 0 || err == nil || !strings.Contains(err.Error(), "hard links") && !strings.Contains(err.Error(), "more than 10000") {
		t.Errorf("%+v, %v", it, err)
	}
	// It is removed in steps, together with what arrived meanwhile.
	r.must(r.SaveReceipts([]spool.Acknowledged{{Tarball: spool.Tarball{Episode: one}, Receipt: wire.Receipt{Episode: one}}}))
	r.must(r.Clear(one))
	if disk.Exists(disk.OS{}, r.path("episodes", string(one))) || disk.Exists(disk.OS{}, r.path("shipped", string(one)+".removing")) {
		t.Error("its folder is still here")
	}
}

// TestRecover_LetGoByAnOlderVersion: an older version moves quarantine/<id> as a whole to
// episodes/<id>, where the recording in it would not be found.
func TestRecover_LetGoByAnOlderVersion(t *testing.T) {
	r := newRealSpool(t)
	r.record(one, "episodes")
	r.must(r.Quarantine(spool.Reason{Episode: one, Kind: wire.TooLarge, Detail: "because", Retry: true}))
	r.must(errors.Join(os.Remove(r.path("quarantine", string(one), episode.ReasonFile)),
		os.Rename(r.path("quarantine", string(one)), r.path("episodes", string(one)))))
	r.must(r.Close())
	r.open()
	if !r.Done(one) || disk.Exists(disk.OS{}, r.path("quarantine", string(one))) {
		t.Error("the recording does not wait to be shipped")
	}
}

package spool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"testing"

	"cis490/agent/spool"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// otherEncoder packs the same content to other bytes, as another version of zstd does.
type otherEncoder struct {
	spool.Packer
	n byte
}

func (p otherEncoder) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	var b bytes.Buffer
	packed, err := p.Packer.Pack(ctx, &b, src)
	if err != nil {
		return packed, err
	}
	b.Write([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, p.n}) // a frame that is skipped
	packed.Digest, packed.Size = digestOf(b.Bytes()), int64(b.Len())
	_, err = w.Write(b.Bytes())
	return packed, err
}

// TestTarball_RemembersWhatWasSent: the digest of a tarball that may have been sent is never
// forgotten, wherever packing again by another encoder is stopped, and however often. The
// receiver is asked for it before a conflict is concluded.
func TestTarball_RemembersWhatWasSent(t *testing.T) {
	p := packing(t)
	by := func(n byte) spool.Packing { return spool.Packing{Packer: otherEncoder{p.Packer, n}} }
	tidied := func(f *faultdisk.Disk) error {
		return f.Remove(path.Join(dir, "outbox", string(one)+wire.TarballSuffix))
	}
	for name, pack := range map[string]func(*faultdisk.Disk, *spool.Spool, spool.Tarball) (spool.Tarball, error){
		"it arrived damaged": func(_ *faultdisk.Disk, s *spool.Spool, first spool.Tarball) (spool.Tarball, error) {
			return s.Repack(t.Context(), by(1), first)
		},
		"it cannot be read": func(f *faultdisk.Disk, s *spool.Spool, first spool.Tarball) (spool.Tarball, error) {
			if err := tidied(f); err != nil {
				return spool.Tarball{}, err
			}
			return s.Repack(t.Context(), by(1), first)
		},
		"it was removed": func(f *faultdisk.Disk, s *spool.Spool, _ spool.Tarball) (spool.Tarball, error) {
			if err := tidied(f); err != nil {
				return spool.Tarball{}, err
			}
			return s.Tarball(t.Context(), by(1), one)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, left := range faultdisk.Survivals {
				for n := 1; ; n++ {
					f := faultdisk.New("/")
					s, err := open(f)
					if err != nil {
						t.Fatal(err)
					}
					record(t, f, one)
					first, err := s.Tarball(t.Context(), p, one)
					if err != nil {
						t.Fatal(err)
					}
					f.Arm(n, faultdisk.PowerLoss)
					_, cut := pack(f, s, first)
					done := f.Calls() < n
					f.Reboot(left)
					s = again(t, f, n)
					got, err := s.Tarball(t.Context(), by(2), one)
					if err != nil || got.Digest != first.Digest && !slices.Contains(got.Earlier, first.Digest) {
						t.Fatalf("call %d (%v), %d survives: %+v, %v; want %s among its digests", n, cut, left, got, err, first.Digest)
					}
					b, err := disk.ReadFile(f, path.Join(dir, "outbox", string(one)+wire.TarballSuffix), 1<<20)
					if err != nil || digestOf(b) != got.Digest {
						t.Fatalf("call %d (%v), %d survives: the tarball is %s, %v; its sidecar says %s", n, cut, left, digestOf(b), err, got.Digest)
					}
					if done {
						break
					}
				}
			}
		})
	}
}

// TestTarball_SidecarUnread: while the digest of a tarball that may have been sent cannot be
// read, the episode is not packed again.
func TestTarball_SidecarUnread(t *testing.T) {
	f := faultdisk.New("/")
	s, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	record(t, f, one)
	first, err := s.Tarball(t.Context(), packing(t), one)
	if err := errors.Join(err, f.Remove(path.Join(dir, "outbox", string(one)+wire.TarballSuffix))); err != nil {
		t.Fatal(err)
	}
	f.Spoil(path.Join(dir, "outbox", string(one)+".json"), syscall.EIO)
	if _, err := s.Tarball(t.Context(), packing(t), one); !errors.Is(err, syscall.EIO) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want EIO", err)
	}
	f.Spoil("", nil)
	if got, err := s.Tarball(t.Context(), packing(t), one); err != nil || got.Digest != first.Digest {
		t.Errorf("%+v, %v; want %s", got, err, first.Digest)
	}
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

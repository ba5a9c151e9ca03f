package s3_test

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/s3"
)

// arriving calls a function when a part of a body was read.
type arriving struct {
	io.Reader
	left int
	then func()
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if before := a.left; before > 0 {
		if a.left -= n; a.left <= 0 {
			a.then()
		}
	}
	return n, err
}

// TestEarly: a fast body is sent while it arrives, and only what is whole, admitted and
// claimed becomes an object.
func TestEarly(t *testing.T) {
	big := strings.Repeat("0123456789abcde\n", 3<<20/16)
	refused := errors.New("not admitted")
	type story struct {
		fault  s3test.Fault // of the first request
		slow   bool         // the body arrives slowly
		digest bool         // the body has another digest
		cut    bool         // the body ends too early
		admit  error
		claim  bool  // the claim cannot be written
		want   error // nil: it is stored
		bad    bool  // any error
	}
	stories := map[string]story{
		"whole": {}, "slow": {slow: true},
		"another digest": {digest: true, want: receiver.ErrDigest}, "cut off": {cut: true, bad: true},
		"not admitted": {admit: refused, want: refused}, "no claim": {claim: true, bad: true},
	}
	for _, f := range append(s3test.Faults(), s3test.OKTooEarly) {
		stories[string(f)] = story{fault: f}
	}
	server := s3test.New(t)
	for name, x := range stories {
		t.Run(name, func(t *testing.T) {
			p := s3test.NewProxy(t, server)
			dir, b := t.TempDir(), bucket(t, p.Addr, t.Name()+"/")
			begin(t, disk.OS{}, dir, b)
			clock := time.Now()
			back := openAt(dir, b, func() time.Time { return clock })
			s, err := back.Serve()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if _, err := s.Compare(t.Context()); err != nil { // then nothing is looked for
				t.Fatal(err)
			}
			u, whole := upload(big)
			if x.digest {
				u.Digest = "1" + u.Digest[1:]
			}
			if x.claim {
				puts := filepath.Join(dir, "puts")
				if err := errors.Join(os.Remove(puts), os.WriteFile(puts, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			p.Arm(1, x.fault, 0)
			var body io.Reader = &arriving{whole, 512 << 10, func() {
				if x.slow {
					clock = clock.Add(time.Second)
				}
			}}
			body = &arriving{body, 2 << 20, func() {
				if !x.slow {
					until(t, "the request begins", func() bool { return p.Calls() > 0 })
				} else if p.Calls() > 0 {
					t.Error("a slow body is sent early")
				}
			}}
			if x.cut {
				body = io.LimitReader(body, u.Size-1)
			}
			seen := bucket(t, server.Addr, t.Name()+"/")
			_, created, err := s.Receive(u, body, func() error {
				for range 50 { // time for what is sent too early to arrive
					if _, err := seen.Stat(t.Context(), key(u)); !errors.Is(err, fs.ErrNotExist) {
						t.Fatalf("an object before its upload is admitted: %v", err)
					}
				}
				return x.admit
			})
			want := 1
			switch {
			case x.bad && err != nil, x.want != nil && errors.Is(err, x.want):
				want = 0
			case !created || err != nil:
				t.Errorf("created %t, %v", created, err)
			}
			n := 0
			for o, err := range b.List(t.Context(), "episodes/", "") {
				if err != nil {
					t.Fatal(err)
				}
				n++
				if o.Key != key(u) || o.Size != u.Size {
					t.Errorf("an object %s of %d bytes", o.Key, o.Size)
				}
			}
			if got, _ := rows(t, back); n != want || got != want {
				t.Errorf("%d objects and %d rows, want %d", n, got, want)
			}
		})
	}
}

func openAt(dir string, b *objects.Bucket, now func() time.Time) receiver.Backend {
	log := slog.New(slog.DiscardHandler)
	base := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Now: now, Log: log})
	return s3.Open(s3.Options{Base: base, Bucket: b, FS: disk.OS{}, Dir: dir, Uploads: 8, Now: now, Log: log})
}

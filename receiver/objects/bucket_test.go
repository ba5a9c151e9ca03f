package objects_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/objects"
	"cis490/receiver/objects/s3test"
)

func open(t *testing.T, addr string) *objects.Bucket {
	t.Helper()
	b, err := objects.Open(s3test.Options(addr))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digest(content []byte) ident.Digest {
	sum := sha256.Sum256(content)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

func put(b *objects.Bucket, key string, content []byte) error {
	return b.Put(context.Background(), key, bytes.NewReader(content), int64(len(content)), digest(content))
}

func noise(n int) []byte {
	content := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	return content
}

// TestBucket_PutGetListDelete calls each method against a real store, with bodies of one
// request and of many parts.
func TestBucket_PutGetListDelete(t *testing.T) {
	b := open(t, s3test.New(t).Addr)
	ctx := t.Context()
	if err := b.Probe(ctx, "here"); err != nil || !b.ChecksDigests() {
		t.Fatalf("probe: checks digests %t, %v", b.ChecksDigests(), err)
	}
	if skew := b.Skew(); skew.Abs() > 30*time.Second { // the server stamps its answers late while the machine is busy
		t.Errorf("the same clock is off by %s", skew)
	}
	for name, content := range map[string][]byte{"a/small": []byte("text"), "a/large": noise(70 << 20)} {
		if err := put(b, name, content); err != nil {
			t.Fatal(err)
		}
		o, err := b.Stat(ctx, name)
		if err != nil || o.Size != int64(len(content)) || time.Since(o.At).Abs() > time.Minute {
			t.Errorf("%+v, %v", o, err)
		}
		r, err := b.Get(ctx, name, 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if part, err := io.ReadAll(r); err != nil || !bytes.Equal(part, content[1:3]) {
			t.Errorf("a range is %q, %v", part, err)
		}
		_ = r.Close()
		if d, err := b.Hash(ctx, name); err != nil || d != digest(content) {
			t.Errorf("content is %s, %v", d, err)
		}
	}
	for i := range 5 {
		if err := put(b, fmt.Sprintf("b/%d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for o, err := range b.List(ctx, "b/", "b/1") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	if fmt.Sprint(keys) != "[b/2 b/3 b/4]" {
		t.Errorf("listed %v", keys)
	}
	if few, err := b.Few(ctx, "b/", 2); err != nil || len(few) != 2 {
		t.Errorf("few: %v, %v", few, err)
	}
	if err := b.Delete(ctx, "b/0"); err != nil {
		t.Error(err)
	}
	if _, err := b.Stat(ctx, "b/0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
	if n, err := b.Abort(ctx, time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d uploads are left, %v", n, err)
	}
}

// TestBucket_RefusesAWrongBody: the store compares a body with its signed digest.
func TestBucket_RefusesAWrongBody(t *testing.T) {
	b := open(t, s3test.New(t).Addr)
	err := b.Put(t.Context(), "a", bytes.NewReader([]byte("other")), 5, digest([]byte("text")))
	if !errors.Is(err, objects.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Stat(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stored: %v", err)
	}
	large := noise(65 << 20)
	want := digest(large)
	large[40<<20] ^= 1
	if err := b.Put(t.Context(), "b", bytes.NewReader(large), int64(len(large)), want); !errors.Is(err, objects.ErrDamaged) {
		t.Errorf("in parts: %v", err)
	}
	if _, err := b.Stat(t.Context(), "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stored: %v", err)
	}
}

// TestBucket_Faults breaks each request in each way: after a success the object is complete,
// and every error is one of the package's.
func TestBucket_Faults(t *testing.T) {
	s := s3test.New(t)
	p := s3test.NewProxy(t, s)
	b, direct := open(t, p.Addr), open(t, s.Addr)
	b.SmallParts()
	if err := b.Probe(t.Context(), "here"); err != nil {
		t.Fatal(err)
	}
	want := map[s3test.Fault]error{
		s3test.Redirect: objects.ErrDenied, s3test.Denied: objects.ErrDenied, s3test.Full: objects.ErrFull, s3test.Skewed: objects.ErrSkewed,
	}
	for _, size := range []int{100, 6 << 20} {
		content := noise(size)
		for _, f := range s3test.Faults() {
			for n := 1; ; n++ {
				key := fmt.Sprintf("%d/%s/%d", size, f, n)
				p.Arm(n, f, 0)
				err := put(b, key, content)
				reached := p.Calls() >= n
				p.Arm(0, "", 0)
				if !reached {
					break
				}
				switch {
				case want[f] == nil && err != nil:
					t.Errorf("%s at request %d: one fault is not survived: %v", f, n, err)
				case want[f] != nil && !errors.Is(err, want[f]):
					t.Errorf("%s at request %d: %v", f, n, err)
				}
				d, bad := direct.Hash(t.Context(), key)
				if err == nil && (bad != nil || d != digest(content)) {
					t.Errorf("%s at request %d: success, and stored is %s, %v", f, n, d, bad)
				}
			}
		}
	}
	p.Arm(1, s3test.SlowDown, 99)
	if err := put(b, "slow", []byte("text")); !errors.Is(err, objects.ErrSlow) || p.Calls() != 3 {
		t.Errorf("a store that stays slow: %v after %d requests", err, p.Calls())
	}
	p.Arm(1, s3test.DamagedBody, 99)
	if err := put(b, "damaged", []byte("text")); !errors.Is(err, objects.ErrDamaged) || p.Calls() != 2 {
		t.Errorf("a network that damages: %v after %d requests", err, p.Calls())
	}
	p.Arm(0, "", 0)
	if n, err := direct.Abort(t.Context(), time.Now().Add(time.Hour)); err != nil || n > 3 { // started by requests whose answer was lost
		t.Errorf("%d uploads were left, %v", n, err)
	}
}

// TestBucket_StoreThatChecksNothing: uploaded objects are read back.
func TestBucket_StoreThatChecksNothing(t *testing.T) {
	s := s3test.New(t)
	p := s3test.NewProxy(t, s)
	p.Unchecked()
	b := open(t, p.Addr)
	if err := b.Probe(t.Context(), "here"); err != nil || b.ChecksDigests() {
		t.Fatalf("probe: checks digests %t, %v", b.ChecksDigests(), err)
	}
	p.Arm(1, s3test.DamagedBody, 0)
	if err := put(b, "a", []byte("text")); !errors.Is(err, objects.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if err := put(b, "a", []byte("text")); err != nil {
		t.Error(err)
	}
}

// TestBucket_FollowsKeys: wrong keys are denied, and new ones take effect at once.
func TestBucket_FollowsKeys(t *testing.T) {
	o := s3test.Options(s3test.New(t).Addr)
	keys := objects.Keys{ID: "nobody", Secret: "wrong-secret-value"}
	o.Keys, o.DeleteKeys = func() (objects.Keys, error) { return keys, nil }, nil
	b, err := objects.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(b, "a", []byte("text")); !errors.Is(err, objects.ErrDenied) || bytes.Contains([]byte(err.Error()), []byte(keys.Secret)) {
		t.Errorf("got %v", err)
	}
	keys = s3test.Keys()
	if err := put(b, "a", []byte("text")); err != nil {
		t.Error(err)
	}
	if err := b.Delete(t.Context(), "a"); !errors.Is(err, objects.ErrDenied) {
		t.Errorf("deleted without a key for it: %v", err)
	}
}

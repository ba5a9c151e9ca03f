package update_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"cis490/install/update"
	"cis490/internal/disk"
)

// pack compresses content.
func pack(t *testing.T, content []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	must(t, err)
	return z.EncodeAll(content, nil)
}

// sendPacked answers with a compressed file, or a range of it, as the receiver does.
func sendPacked(w http.ResponseWriter, req *http.Request, packed []byte) bool {
	if req.Header.Get("Accept-Encoding") != "zstd" {
		return false
	}
	w.Header().Set("Content-Encoding", "zstd")
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(packed))
	return true
}

// TestFetch_Packed: a compressed file is unpacked, an interrupted one continued, and a wrong
// one removed, so that the next run succeeds with a right one.
func TestFetch_Packed(t *testing.T) {
	type answer func(w http.ResponseWriter, req *http.Request, b []byte) bool
	whole := func(w http.ResponseWriter, req *http.Request, b []byte) bool { return sendPacked(w, req, pack(t, b)) }
	of := func(content []byte) answer {
		return func(w http.ResponseWriter, req *http.Request, _ []byte) bool { return sendPacked(w, req, content) }
	}
	for name, c := range map[string]struct {
		before []byte // of the compressed file, already there
		first  answer // of the source; nil: not compressed
		why    string // of the failure; empty: the first answer is right
		asked  string // the last range; empty: all
	}{
		"whole":                       {first: whole},
		"not compressed":              {},
		"begun":                       {before: pack(t, []byte("v2 amd64"))[:5], first: whole, asked: "bytes=5-"},
		"complete, but not unpacked":  {before: pack(t, []byte("v2 amd64")), first: whole, asked: "bytes=21-"},
		"begun, now not compressed":   {before: pack(t, []byte("v2 amd64"))[:5]},
		"begun, and packed otherwise": {before: []byte("other"), first: whole, why: "unpack the download"},
		"no zstd":                     {first: of([]byte("no zstd at all")), why: "unpack the download"},
		"cut off":                     {first: of(pack(t, []byte("v2 amd64"))[:17]), why: "unpack the download"},
		"too short":                   {first: of(pack(t, []byte("v2"))), why: "unpacked 2 bytes"},
		"a bomb":                      {first: of(pack(t, make([]byte, 4<<20))), why: "unpack the download"},
		"larger than the binary":      {first: of(bytes.Repeat([]byte{'x'}, 4<<10)), why: "exceeds the"},
		"other content":               {first: of(pack(t, []byte("v2 arm64"))), why: "the signed manifest names"},
	} {
		t.Run(name, func(t *testing.T) {
			r, l, _ := remote(t)
			r.publish("v2", 2)
			if c.before != nil {
				must(t, disk.MkdirAll(r.fs, r.path("state", "fetch"), 0o755))
				must(t, disk.ReplaceBytes(r.fs, r.path("state", "fetch", string(r.blob("v2 amd64").Digest)+".unverified.zst"), 0o600, c.before))
			}
			l.blob = c.first
			res := r.run()
			if c.why != "" {
				if res.Did != update.Repaired || !strings.Contains(r.log.String()+res.Note, c.why) {
					t.Fatalf("%+v, want %q\n%s", res, c.why, r.log.String())
				}
				r.want("after the wrong file", "v1", "v1")
				l.blob = whole
				r.now = r.now.Add(time.Hour)
				res = r.run()
			}
			if res.Did != update.Began {
				t.Fatalf("%+v\n%s", res, r.log.String())
			}
			r.want("after", "v2", "v1")
			if last := l.asked[len(l.asked)-1]; c.asked != "" && !strings.HasSuffix(last, c.asked) {
				t.Errorf("asked %q", l.asked)
			}
			left, err := r.fs.ReadDir(r.path("state", "fetch"))
			if err != nil && !os.IsNotExist(err) || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
)

// FuzzUpload: whatever path and headers say, the request is refused as malformed,
// or names one file in its host's own folder.
func FuzzUpload(f *testing.F) {
	const id, commit = "01ARZ3NDEKTSV4RRFFQ69G5FA1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	f.Add("lab-a", id+".tar.zst", digest, "1", id, commit, "application/zstd", int64(1))
	f.Add("lab-a", id+".tar.zst", digest, "1", id, "", "application/zstd; charset=x", int64(1<<40))
	f.Add("..", "%2e%2e%2f"+id+".tar.zst", digest, "1", id, "", "application/zstd; charset=x", int64(-1))
	f.Add("lab-a\x00", strings.ToLower(id)+".tar.zst", strings.ToUpper(digest), "01", "", commit+"\n", "", int64(0))
	f.Fuzz(func(t *testing.T, host, file, digest, schema, episode, commit, kind string, size int64) {
		r := httptest.NewRequest(http.MethodPut, "/", nil)
		r.ContentLength = size
		r.URL = &url.URL{Path: "/v1/episodes/" + host + "/" + file}
		for name, v := range map[string]string{
			wire.HeaderDigest: digest, wire.HeaderSchema: schema, wire.HeaderHost: host,
			wire.HeaderEpisode: episode, wire.HeaderCommit: commit, "Content-Type": kind,
		} {
			r.Header.Set(name, v)
		}
		r.SetPathValue("host", host)
		r.SetPathValue("file", file)
		var u receiver.Upload
		h, e, err := episodePath(r)
		if err == nil {
			u, err = uploadOf(r, h, e)
		}
		if err != nil {
			if p, ok := errors.AsType[*wire.Problem](err); !ok || p.Kind != wire.Malformed || p.Status != http.StatusBadRequest {
				t.Errorf("refused with %v", err)
			}
			return
		}
		path := filepath.Join("episodes", string(u.Host), string(u.Episode)+wire.TarballSuffix)
		if want := "episodes/" + host + "/" + file; path != want || strings.Count(path, "/") != 2 {
			t.Errorf("%q names %q", want, path)
		}
		if _, err := ident.ParseDigest(string(u.Digest)); err != nil || u.Size <= 0 || string(u.Commit) != commit ||
			len(commit) != 0 && len(commit) != 40 {
			t.Errorf("taken: %+v", u)
		}
	})
}

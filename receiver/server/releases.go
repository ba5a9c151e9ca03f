package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/wire"
	"cis490/receiver"
)

// sendChunk is how many bytes are sent under one deadline.
const sendChunk = 1 << 20

// getReleases answers which release a host should run. It needs no authentication, so
// that a host whose certificate or commit is rejected can recover by an update. Releases
// are signed, so that neither the client nor the network has to be trusted.
func (s *Server) getReleases(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	goos, arch := q.Get("os"), q.Get("arch")
	var host ident.Host
	if name := q.Get("host"); name != "" {
		var err error
		if host, err = ident.ParseHost(name); err != nil {
			return wire.NewProblem(wire.Malformed, "host: %s", err)
		}
	}
	if goos == "" || arch == "" {
		return wire.NewProblem(wire.Malformed, "the platform is missing: ?os=linux&arch=amd64&host=NAME")
	}
	if s.o.Releases == nil {
		return wire.NewProblem(wire.NotFound, "no signed release is published")
	}
	p, ok := s.o.Releases.Offer(goos, arch, host)
	if !ok {
		return wire.NewProblem(wire.NotFound, "no release is offered to %q for %.20q/%.20q", host, goos, arch)
	}
	sum := sha256.Sum256([]byte(p.Offer.Manifest + p.Offer.Signature))
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return answer(w, http.StatusOK, p.Offer)
}

// getBlob sends a published binary, or a range of it. Its name is its digest, so that it
// never changes. The number of parallel downloads is bounded.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) error {
	d, err := ident.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return wire.NewProblem(wire.Malformed, "path: %s", err)
	}
	tag := `"` + string(d) + `"`
	f, err := receiver.Tarball(nil), fs.ErrNotExist
	if acceptsZstd(r) {
		f, err = s.o.Backend.Releases.PackedBlob(d)
	}
	if err == nil {
		w.Header().Set("Content-Encoding", "zstd")
		tag = `"` + string(d) + `.zst"`
	} else {
		f, err = s.o.Backend.Releases.Blob(d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return wire.NewProblem(wire.NotFound, "no binary with sha256 %s is published", d)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	// Clients are not authenticated; the bound by address keeps one from taking all places.
	release, ok := s.downloads.acquire(listen.Source(s.from(r)))
	if !ok {
		p := wire.NewProblem(wire.Busy, "the limit of parallel downloads is reached")
		p.RetryAfter = 60
		return p
	}
	defer release()
	defer listen.Transfer(r.Context())()
	oneRange(r)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept-Encoding")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// acceptsZstd reports whether the client asks for zstd, without a weight.
func acceptsZstd(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(coding) == "zstd" {
			return true
		}
	}
	return false
}

// oneRange ignores a request for several ranges and sends the whole file, as RFC 9110
// allows: with a header for each range the answer could exceed the file.
func oneRange(r *http.Request) {
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
}

// ReadFrom sends a file in parts with a deadline each. On connections without TLS (behind
// a proxy) the kernel sends it: see fileConn.
func (w *counted) ReadFrom(r io.Reader) (sent int64, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	left := int64(math.MaxInt64)
	limited, ok := r.(*io.LimitedReader)
	if ok { // sendfile works through one LimitedReader, and CopyN adds one
		r, left = limited.R, limited.N
		defer func() { limited.N -= sent }()
	}
	for left > 0 {
		w.deadline()
		n, err := io.CopyN(w.ResponseWriter, r, min(left, sendChunk))
		sent, left = sent+n, left-n
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

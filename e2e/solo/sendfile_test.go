//go:build e2e

package solo

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// TestBlob_KernelSends: behind a proxy, serve sends binaries and ranges of them with
// sendfile.
func TestBlob_KernelSends(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	blob := make([]byte, 12<<20)
	_, _ = rand.Read(blob)
	r := newHarness(t, "")
	socket := r.path("http.sock")
	conf, err := os.ReadFile(r.path("receiver.toml"))
	must(t, err)
	r.write("receiver.toml", string(conf)+"[tls]\nmode = \"proxy\"\nsocket = "+strconv.Quote(socket)+"\n")
	must(t, os.MkdirAll(r.path("data/releases/blobs"), 0o755))
	must(t, os.WriteFile(manifest.BlobPath(filepath.Join(r.dir, "data/releases"), digestOf(blob)), blob, 0o644))
	r.start()
	trace := exec.Command("strace", "-f", "-qq", "-o", r.path("trace"), "-e", "trace=sendfile,write", "-p", strconv.Itoa(r.pid()))
	must(t, trace.Start())
	r.waitFor("strace is attached", func() bool { return r.statusKiB("TracerPid") != 0 })

	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	for _, from := range []int{0, 5 << 20} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://receiver"+wire.ReleaseBlobPrefix+string(digestOf(blob)), nil)
		must(t, err)
		if from > 0 {
			req.Header.Set("Range", "bytes="+strconv.Itoa(from)+"-")
		}
		res, err := tr.RoundTrip(req)
		must(t, err)
		b, err := io.ReadAll(res.Body)
		must(t, res.Body.Close())
		if err != nil || !bytes.Equal(b, blob[from:]) {
			t.Errorf("from %d: status %d, %d bytes, %v", from, res.StatusCode, len(b), err)
		}
	}
	must(t, trace.Process.Signal(os.Interrupt))
	_ = trace.Wait()
	calls, err := os.ReadFile(r.path("trace"))
	must(t, err)
	var kernel int
	for line := range strings.Lines(string(calls)) {
		_, result, ok := strings.Cut(line, " = ")
		n, err := strconv.Atoi(strings.TrimSpace(result))
		switch {
		case !ok || err != nil:
		case strings.Contains(line, "sendfile("):
			kernel += n
		case n > 64<<10:
			t.Errorf("the program sent a part of the file with write: %.100s", line)
		}
	}
	// net/http reads the first bytes of each answer itself.
	if most := 2*len(blob) - 5<<20; kernel > most || kernel < most-2*512 {
		t.Errorf("the kernel sent %d bytes of %d", kernel, most)
	}
}

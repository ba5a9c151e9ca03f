package commands_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

const siteHost = "lab-01"

// site is a receiver, run as a program, and a lab host in its roster.
type site struct {
	tb  testing.TB
	dir string
	url string

	serving  *exec.Cmd
	recorded int // episodes
}

func newSite(tb testing.TB) *site {
	r := &site{tb: tb, dir: tb.TempDir()}
	ca, err := pki.NewCA(time.Now())
	r.must(err)
	for _, d := range []string{"ca", "certs", "data"} {
		r.must(os.Mkdir(r.path(d), 0o755))
	}
	r.write("ca/trust.pem", pki.EncodeCerts(ca.Cert))
	r.write("certs/ca.crt", pki.EncodeCerts(ca.Cert))
	key, err := pki.NewKey()
	r.must(err)
	cert, err := ca.Server(key.Public(), []string{"127.0.0.1"}, time.Now(), 24*time.Hour)
	r.must(err)
	pem, err := pki.EncodeKey(key)
	r.must(err)
	r.write("ca/server.pem", append(pki.EncodeCerts(cert), pem...))
	cert, err = ca.Client(key.Public(), siteHost, time.Now(), 24*time.Hour)
	r.must(err)
	r.write("certs/lab-host.pem", append(pki.EncodeCerts(cert), pem...))
	r.write("certs/bearer", []byte("bearer"))
	sum := sha256.Sum256([]byte("bearer"))
	row, err := json.Marshal(map[string]any{
		"at": time.Now(), "host": siteHost, "event": "enrolled", "serial": pki.Serial(cert),
		"bearer_sha256": hex.EncodeToString(sum[:]), "expires": cert.NotAfter,
	})
	r.must(err)
	r.write("ca/roster.jsonl", append(row, '\n'))
	r.write("operator", []byte("secret\n"))
	r.write("rx.toml", fmt.Appendf(nil, "public_url = \"https://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\ndata_dir = %q\noperator_file = %q\n"+
		"[authority]\ndir = %q\n", r.path("rx"), r.path("operator"), r.path("ca")))
	r.serve()
	tb.Cleanup(r.stopServing)
	r.url = "https://" + strings.TrimSpace(r.read("addr"))
	// A restarted receiver has the same address.
	r.write("rx.toml", bytes.ReplaceAll([]byte(r.read("rx.toml")), []byte("127.0.0.1:0"), []byte(strings.TrimSpace(r.read("addr")))))
	r.write("lab.toml", fmt.Appendf(nil, "host = %q\ndata_dir = %q\ncerts_dir = %q\n[receiver]\nurl = %q\n[authority]\nurl = %q\n", siteHost,
		r.path("data"), r.path("certs"), r.url, r.url))
	r.ready()
	return r
}

// serve starts the receiver and waits until it listens.
func (r *site) serve() {
	_ = os.Remove(r.path("addr")) // of the last run
	r.serving = exec.Command("cis490", "serve", "--config", r.path("rx.toml"), "--addr-file", r.path("addr"))
	r.serving.Stderr = r.create("serve.log")
	r.must(r.serving.Start())
	r.until("serve listens", func() bool { _, err := os.Stat(r.path("addr")); return err == nil })
}

func (r *site) stopServing() {
	_ = r.serving.Process.Signal(syscall.SIGTERM) // it may be dead
	_ = r.serving.Wait()
}

// record writes n episodes with telemetry-like rows, of about size bytes.
func (r *site) record(n int, size int64) {
	block := new(bytes.Buffer)
	for block.Len() < int(min(size, 16<<20)) {
		_, _ = fmt.Fprintf(block, `{"t":%d.%09d,"pid":%d,"cpu":%.4f,"rss":%d,"read":%d,"written":%d,"state":"S"}`+"\n",
			rand.IntN(900), rand.IntN(1e9), rand.IntN(32768), rand.Float64(), rand.IntN(1<<30), rand.IntN(1<<24), rand.IntN(1<<24))
	}
	for range n {
		r.recorded++
		id := ident.EpisodeID(fmt.Sprintf("01J%023d", r.recorded))
		dir := filepath.Join(r.path("data"), "episodes", string(id))
		meta, err := json.Marshal(episode.Meta{
			SchemaVersion: episode.MetaSchema, Episode: id, Host: siteHost,
			Experiment: ident.Digest(strings.Repeat("0", 64)), Code: episode.Code{Commit: testCommit}, Verdict: episode.Accepted,
		})
		r.must(errors.Join(err, os.MkdirAll(dir, 0o770), os.WriteFile(filepath.Join(dir, episode.MetaFile), meta, 0o660)))
		f, err := os.Create(filepath.Join(dir, "telemetry-proc.jsonl"))
		r.must(err)
		for left := size; left > 0; left -= int64(block.Len()) {
			rows := block.Bytes()
			_, err := f.Write(rows[:min(left, int64(len(rows)))])
			r.must(err)
		}
		// Writeback during the benchmark would slow down one of the two.
		r.must(errors.Join(f.Sync(), f.Close(), os.WriteFile(filepath.Join(dir, episode.DoneMarker), nil, 0o660)))
	}
}

// restamp changes the commit of all episodes.
func (r *site) restamp(commit string) {
	all, err := filepath.Glob(filepath.Join(r.path("data"), "episodes", "*", episode.MetaFile))
	r.must(err)
	for _, f := range all {
		b, err := os.ReadFile(f)
		r.must(errors.Join(err, os.WriteFile(f, bytes.ReplaceAll(b, []byte(testCommit), []byte(commit)), 0o660)))
	}
}

// script writes the commands that a person would type for every episode.
func (r *site) script() string {
	dirs, err := os.ReadDir(filepath.Join(r.path("data"), "episodes"))
	r.must(err)
	var sh strings.Builder
	fmt.Fprintf(&sh, "set -e\ncd %s\n", filepath.Join(r.path("data"), "episodes"))
	for _, d := range dirs {
		packed, err := exec.Command("sh", "-c", fmt.Sprintf("cd %s && tar c %s | zstd -q -3 -T0 | tee %s | sha256sum",
			filepath.Join(r.path("data"), "episodes"), d.Name(), r.path("packed"))).Output()
		r.must(err)
		size, err := os.Stat(r.path("packed"))
		r.must(err)
		fmt.Fprintf(&sh, "tar c %s | zstd -q -3 -T0 | "+
			"curl --http1.1 -H Transfer-Encoding: -fsS -o /dev/null -T - --cacert %[2]s/ca.crt --cert %[2]s/lab-host.pem --key %[2]s/lab-host.pem",
			d.Name(), r.path("certs"))
		for _, h := range []string{
			"Authorization: Bearer bearer", "Content-Type: " + wire.ContentTypeEpisode, fmt.Sprint("Content-Length: ", size.Size()),
			wire.HeaderDigest + ": " + string(packed[:64]), wire.HeaderSchema + ": " + wire.SchemaVersion, wire.HeaderHost + ": " + siteHost,
			wire.HeaderEpisode + ": " + d.Name(), wire.HeaderCommit + ": " + testCommit,
		} {
			fmt.Fprintf(&sh, " -H '%s'", h)
		}
		fmt.Fprintln(&sh, " "+r.url+wire.EpisodePath(siteHost, ident.EpisodeID(d.Name())))
	}
	r.write("typed.sh", []byte(sh.String()))
	return r.path("typed.sh")
}

// forget replaces the receiver by an empty one, like a new machine.
func (r *site) forget() {
	r.stopServing()
	r.must(os.RemoveAll(r.path("rx")))
	r.serve()
	r.ready()
}

func (r *site) ready() {
	r.until("serve is ready", func() bool {
		return exec.Command("cis490", "ship", "--ping", "--config", r.path("lab.toml")).Run() == nil
	})
}

// cost is what a command used: time, CPU time of it and the receiver together, and its peak
// memory in KiB; and its output.
type cost struct {
	time, cpu time.Duration
	peak      int
	said      string
}

// timed runs a command at the priority of the shipper's unit.
func (r *site) timed(args ...string) (c cost) {
	cmd := exec.Command("nice", append([]string{"-n", "10"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	serving := r.cpu(r.serving.Process.Pid)
	start := time.Now()
	r.must(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// Not by getrusage(2): a child's starts with its parent's.
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			_, after, _ := strings.Cut(string(status), "VmHWM:")
			var kib int
			_, _ = fmt.Sscan(after, &kib)
			c.peak = max(c.peak, kib)
		case err := <-done:
			c.time = time.Since(start)
			c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + r.cpu(r.serving.Process.Pid) - serving
			if err != nil {
				text, log := out.String(), r.read("serve.log")
				r.tb.Fatalf("%v: %v\n%s\nserve:\n%s", args, err, text[max(0, len(text)-2000):], log[max(0, len(log)-2000):])
			}
			c.said = out.String()
			return c
		}
	}
}

func (r *site) cpu(pid int) time.Duration {
	f := strings.Fields(r.proc(pid, "stat"))
	user, _ := strconv.Atoi(f[13])
	system, _ := strconv.Atoi(f[14])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (r *site) rss(pid int) int {
	pages, _ := strconv.Atoi(strings.Fields(r.proc(pid, "statm"))[1])
	return pages * os.Getpagesize() / 1024
}

func (r *site) proc(pid int, name string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	r.must(err)
	return string(b)
}

func (r *site) path(name string) string { return filepath.Join(r.dir, name) }

func (r *site) write(name string, b []byte) { r.must(os.WriteFile(r.path(name), b, 0o600)) }

func (r *site) read(name string) string {
	b, _ := os.ReadFile(r.path(name)) // "" where it is not there yet
	return string(b)
}

func (r *site) create(name string) *os.File {
	f, err := os.Create(r.path(name))
	r.must(err)
	return f
}

func (r *site) must(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatal(err)
	}
}

func (r *site) until(what string, ok func() bool) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			r.tb.Fatalf("not so after a minute: %s\n%s", what, r.read("serve.log"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

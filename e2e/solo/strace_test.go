//go:build e2e

package solo

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestFaults_OfRealCalls makes disk calls of the running receiver fail. Uploads are
// answered 500 or 507 and not stored; after the fault the same receiver accepts them.
func TestFaults_OfRealCalls(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	small, large := []byte("small"), []byte(strings.Repeat("l", 2<<20))
	for _, f := range []struct {
		call, error string
		body        []byte
		status      int
	}{
		{"syncfs", "EIO", small, http.StatusInternalServerError}, // of body and row
		{"syncfs", "ENOSPC", small, http.StatusInsufficientStorage},
		{"syncfs,fsync", "EIO", small, http.StatusInternalServerError}, // of the row's cut, too
		{"syncfs,fsync", "ENOSPC", small, http.StatusInsufficientStorage},
		{"fsync", "EIO", large, http.StatusInternalServerError}, // of the body
		{"fsync", "ENOSPC", large, http.StatusInsufficientStorage},
		{"linkat", "EIO", small, http.StatusInternalServerError},
		{"linkat", "ENOSPC", small, http.StatusInsufficientStorage},
		{"write", "EIO", small, http.StatusInternalServerError}, // of the row
		{"write", "ENOSPC", small, http.StatusInsufficientStorage},
	} {
		t.Run(fmt.Sprintf("%s %s, %d bytes", f.call, f.error, len(f.body)), func(t *testing.T) {
			r := newHarness(t, "")
			r.start()
			h := r.enroll("lab-a")
			first := newID()
			if status, err := h.put(first, f.body, digestOf(f.body)); status != http.StatusCreated {
				t.Fatalf("before: %d %v", status, err)
			}
			detach := r.inject(f.call, f.error)
			id := newID()
			status, err := h.put(id, f.body, digestOf(f.body))
			if err != nil || status != f.status {
				t.Errorf("answered %d, %v, want %d", status, err, f.status)
			}
			detach()
			r.waitFor("the same episode is accepted", func() bool {
				status, err := h.put(id, f.body, digestOf(f.body))
				return err == nil && (status == http.StatusCreated || status == http.StatusOK)
			})
			r.stop()
			rows := r.rows()
			for k, all := range rows {
				if len(all) != 1 {
					t.Errorf("%v has %d rows", k, len(all))
				}
			}
			if len(rows) != 2 {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}

// TestFaults_WithinTheBody makes the disk fail when half of an upload is written.
func TestFaults_WithinTheBody(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	body := []byte(strings.Repeat("b", 2<<20))
	for errno, want := range map[string]int{"EIO": http.StatusInternalServerError, "ENOSPC": http.StatusInsufficientStorage} {
		t.Run(errno, func(t *testing.T) {
			r := newHarness(t, "")
			r.start()
			h := r.enroll("lab-a")
			id := newID()
			half, rest := io.Pipe()
			answered := make(chan int, 1)
			go func() {
				status, err := h.send(id, half, len(body), digestOf(body))
				if err != nil {
					t.Errorf("no answer: %v", err)
				}
				answered <- status
			}()
			_, err := rest.Write(body[:1<<20])
			must(t, err)
			var staged []string
			r.waitFor("half of it is staged", func() bool {
				staged, _ = filepath.Glob(r.path("data/staged/lab-a.*"))
				return len(staged) == 1
			})
			detach := r.injectInto(staged[0], "write", errno)
			go func() { _, _ = rest.Write(body[1<<20:]); _ = rest.Close() }()
			if status := <-answered; status != want {
				t.Errorf("answered %d, want %d", status, want)
			}
			detach()
			if left, _ := filepath.Glob(r.path("data/staged/*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if status, err := h.put(id, body, digestOf(body)); status != http.StatusCreated {
				t.Errorf("afterwards: %d %v", status, err)
			}
		})
	}
}

// inject makes every such call of the receiver fail until detach is called. For write, only
// calls to the index fail, because the receiver writes to sockets too.
func (r *harness) inject(call, errno string) (detach func()) {
	r.t.Helper()
	if call == "write" {
		return r.injectInto(r.path("data/index.jsonl"), call, errno)
	}
	return r.injectInto("", call, errno)
}

// injectInto is inject for calls on one file, or on all files for "".
func (r *harness) injectInto(file, call, errno string) (detach func()) {
	r.t.Helper()
	args := []string{
		"-f", "-qq", "-o", r.path("strace"), "-e", "trace=" + call, "-e", "inject=" + call + ":error=" + errno, "-p",
		strconv.Itoa(r.pid()),
	}
	if file != "" {
		args = append(args, "-P", file)
	}
	cmd := exec.Command("strace", args...)
	must(r.t, cmd.Start())
	r.waitFor("strace is attached to each thread", r.allTraced)
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

// allTraced reports whether strace has attached to every thread.
func (r *harness) allTraced() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.pid()))
	must(r.t, err)
	for _, path := range threads {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "\nTracerPid:\t0\n") {
			return false
		}
	}
	return true
}

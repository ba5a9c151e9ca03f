//go:build e2e

package solo

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestFaults_OfRealCalls lets calls of the running receiver to the disk fail:
// what is sent then is answered 5xx or 507 and not stored, and once the fault is
// over the same receiver takes it.
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
		{"syncfs", "EIO", small, http.StatusInternalServerError},
		{"syncfs", "ENOSPC", small, http.StatusInsufficientStorage},
		{"fsync", "EIO", small, http.StatusInternalServerError}, // of the row
		{"fsync", "ENOSPC", small, http.StatusInsufficientStorage},
		{"fsync", "EIO", large, http.StatusInternalServerError}, // of the body
		{"fsync", "ENOSPC", large, http.StatusInsufficientStorage},
		{"linkat", "EIO", small, http.StatusInternalServerError},
		{"linkat", "ENOSPC", small, http.StatusInsufficientStorage},
		{"write", "EIO", small, http.StatusInternalServerError}, // of the row
		{"write", "ENOSPC", small, http.StatusInsufficientStorage},
	} {
		t.Run(fmt.Sprintf("%s %s, %d bytes", f.call, f.error, len(f.body)), func(t *testing.T) {
			r := newRig(t, "")
			r.start()
			h := r.enrol("lab-a")
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
			r.eventually("the same episode is taken", func() bool {
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

// inject lets every such call of the receiver fail until detach is called; writes
// only to the index, as those to its sockets are calls of the same name.
func (r *rig) inject(call, errno string) (detach func()) {
	r.t.Helper()
	args := []string{"-f", "-qq", "-o", r.path("strace"), "-e", "trace=" + call, "-e", "inject=" + call + ":error=" + errno, "-p", strconv.Itoa(r.pid())}
	if call == "write" {
		args = append(args, "-P", r.path("data/index.jsonl"))
	}
	cmd := exec.Command("strace", args...)
	must(r.t, cmd.Start())
	r.eventually("strace is attached", func() bool { return r.status("TracerPid") != 0 })
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

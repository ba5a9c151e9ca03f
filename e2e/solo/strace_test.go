//go:build e2e

package solo

import (
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
	bodies := map[string][]byte{"journaled": []byte("small"), "staged": []byte(strings.Repeat("l", 100<<10))}
	for _, f := range []struct {
		call, error, kind string
		status            int
	}{
		{"fdatasync", "EIO", "journaled", http.StatusInternalServerError},
		{"fdatasync", "ENOSPC", "journaled", http.StatusInsufficientStorage},
		{"fsync", "EIO", "staged", http.StatusInternalServerError},
		{"fsync", "ENOSPC", "staged", http.StatusInsufficientStorage},
		{"linkat", "EIO", "staged", http.StatusInternalServerError},
		{"linkat", "ENOSPC", "staged", http.StatusInsufficientStorage},
	} {
		t.Run(f.call+" "+f.error, func(t *testing.T) {
			r := newRig(t, "")
			r.start()
			h := r.enrol("lab-a")
			first := newID()
			if status, err := h.put(first, bodies[f.kind], digestOf(bodies[f.kind])); status != http.StatusCreated {
				t.Fatalf("before: %d %v", status, err)
			}
			detach := r.inject(f.call, f.error)
			id := newID()
			status, err := h.put(id, bodies[f.kind], digestOf(bodies[f.kind]))
			if err != nil || status != f.status {
				t.Errorf("answered %d, %v, want %d", status, err, f.status)
			}
			detach()
			r.eventually("the same episode is taken", func() bool {
				status, err := h.put(id, bodies[f.kind], digestOf(bodies[f.kind]))
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

// inject lets every such call of the receiver fail until detach is called.
func (r *rig) inject(call, errno string) (detach func()) {
	r.t.Helper()
	cmd := exec.Command("strace", "-f", "-qq", "-o", r.path("strace"), "-e", "trace="+call, "-e", "inject="+call+":error="+errno, "-p", strconv.Itoa(r.pid()))
	must(r.t, cmd.Start())
	r.eventually("strace is attached", func() bool { return r.status("TracerPid") != 0 })
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

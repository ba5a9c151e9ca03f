package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/archive"
	"cis490/receiver/local"
	"cis490/receiver/server"
)

// TestArchive_IsStillKnown: after tarballs were moved out, PUT and reconcile
// answer as before, also after a restart; nothing is taken twice, and the host has
// room in its quota again.
func TestArchive_IsStillKnown(t *testing.T) { onEach(t, archivedIsStillKnown) }

func archivedIsStillKnown(t *testing.T, on func(*harness)) {
	r := newHarness(t, on, func(r *harness) { r.config.Limits.HostQuota = 250 << 10 })
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	two := strings.Repeat("2", 200<<10)
	put := func(h *host, id ident.EpisodeID, content string, want int) {
		t.Helper()
		if status, kind, detail := h.do(h.request(id, content)); status != want {
			t.Errorf("%s %s: %d %s %s, want %d", h.name, id, status, kind, detail, want)
		}
	}
	put(a, ep1, large, 201)
	put(a, ep2, "small", 201)
	put(b, ep1, "small", 201)
	put(a, ep3, two, 507)
	to := t.TempDir()
	run := func() (archive.Result, error) {
		return archive.Run(t.Context(), archive.Options{
			Limit: 1 << 30, FS: disk.OS{}, Backend: r.backend(), To: to, Before: time.Now().Add(time.Second),
			Archive: func(ctx context.Context, h ident.Host, pairs []wire.Pair) ([]ident.EpisodeID, error) {
				return server.AskArchive(ctx, local.AdminSocket(r.config.DataDir), h, pairs)
			},
		})
	}
	r.eventually("all is moved", func() bool {
		if _, err := run(); err != nil {
			t.Error(err)
		}
		return len(r.files()) == 0
	})
	if fi, err := os.Stat(filepath.Join(r.config.DataDir, "admin.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "lab-a", string(ep1)+".tar.zst")); err != nil || string(got) != large {
		t.Errorf("copy has %d bytes, %v", len(got), err)
	}
	known := func() {
		t.Helper()
		put(a, ep1, large, 200)
		put(a, ep1, two, 409)
		put(a, ep2, "small", 200)
		body, err := json.Marshal(wire.Reconcile{Episodes: []wire.Pair{
			{
				Episode: ep1,
				Digest:  digestOf([]byte(large)),
			}, {Episode: ep2, Digest: digestOf([]byte("small"))}, {Episode: ep2, Digest: digestOf([]byte(large))},
		}})
		must(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url(wire.ReconcilePath), strings.NewReader(string(body)))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+a.bearer)
		_, _, answer := a.do(req)
		var got wire.Reconciled
		must(t, json.Unmarshal([]byte(answer), &got))
		if diff := cmp.Diff([]ident.EpisodeID{ep1, ep2}, got.Stored); diff != "" {
			t.Error(diff)
		}
	}
	known()
	put(a, ep3, two, 201) // there is room again
	rows, archived := r.rows(), 0
	for _, row := range rows {
		if row.Archived {
			archived++
		}
	}
	if archived != 3 || len(rows) != 7 {
		t.Errorf("%d archived of %+v", archived, rows)
	}
	r.stop()
	if _, err := run(); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.FixOf(err), "systemctl start cis490-receiver") {
		t.Errorf("without serve: %v", err)
	}
	r.start()
	known()
	if n := len(r.files()); n != 1 {
		t.Errorf("%d files", n)
	}
}

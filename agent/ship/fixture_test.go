package ship_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/agent/client"
	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/version"
)

const (
	good ident.Commit = "1111111111111111111111111111111111111111"
	bad  ident.Commit = "2222222222222222222222222222222222222222"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http logs each connection that a fake answer cuts
	os.Exit(m.Run())
}

// host is a lab host with a real data folder.
type host struct {
	t    *testing.T
	cfg  config.LabHost
	dir  string
	fs   disk.FS
	n    int
	now  func() time.Time
	opts func(*ship.Options)
}

func newHost(t *testing.T, r *clienttest.Receiver) *host {
	cfg := r.Config(t)
	return &host{t: t, cfg: cfg, dir: cfg.DataDir, fs: disk.OS{}, now: time.Now}
}

// record writes a complete episode of a commit.
func (h *host) record(c ident.Commit) ident.EpisodeID {
	h.t.Helper()
	h.n++
	id := ident.EpisodeID(fmt.Sprintf("01J%023d", h.n))
	dir := filepath.Join(h.dir, "episodes", string(id))
	meta, err := json.Marshal(episode.Meta{
		SchemaVersion: episode.MetaSchema, Episode: id, Host: clienttest.Host,
		Experiment: ident.Digest(strings.Repeat("0", 64)), Code: episode.Code{Commit: c}, Verdict: episode.Accepted,
	})
	err = errors.Join(err, os.MkdirAll(dir, 0o770),
		os.WriteFile(filepath.Join(dir, episode.MetaFile), meta, 0o660),
		os.WriteFile(filepath.Join(dir, "telemetry-proc.jsonl"), fmt.Appendf(nil, `{"n":%d}`+"\n", h.n), 0o660),
		os.WriteFile(filepath.Join(dir, episode.DoneMarker), nil, 0o660))
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

// start opens the spool and makes a shipper, as the command does.
func (h *host) start() (*ship.Shipper, *spool.Spool) {
	h.t.Helper()
	logger := slog.New(slog.NewTextHandler(h.t.Output(), nil))
	sp, err := spool.Open(spool.Options{FS: h.fs, Dir: h.dir, Now: h.now, Logger: logger})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = sp.Close() })
	found, err := sp.Recover()
	if err != nil {
		h.t.Fatal(err)
	}
	state, err := spool.LoadState(disk.OS{}, h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	cl, err := client.New(h.cfg, version.Info{Version: "1.2.3", Commit: good})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(cl.Close)
	o := ship.Options{
		Host: clienttest.Host, Config: h.cfg.Ship, Build: version.Info{Version: "1.2.3", Commit: good}, BootID: "boot-1",
		Spool: sp, State: state, NewPacker: func() (spool.Packer, error) { return episode.NewPacker() },
		Receiver: cl, Credentials: cl, Logger: logger, Now: h.now,
		Watch: ship.Watch(sp.EpisodesDir()),
	}
	if h.opts != nil {
		h.opts(&o)
	}
	s, err := ship.New(o, found.Interrupted)
	if err != nil {
		h.t.Fatal(err)
	}
	return s, sp
}

// once ships the queue with a new shipper.
func (h *host) once() error {
	h.t.Helper()
	s, sp := h.start()
	return errors.Join(s.Once(h.t.Context()), sp.Close())
}

// run runs a shipper until stop is called.
func (h *host) run() (s *ship.Shipper, stop func()) {
	h.t.Helper()
	s, sp := h.start()
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, sp.Close()); err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(stop)
	return s, stop
}

// names lists a folder of the spool.
func (h *host) names(dir string) []string {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.dir, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			h.t.Fatalf("not so after 20 s: %s", what)
		case <-tick.C:
		}
	}
}

package ship_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/agent/client/clienttest"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

func TestOnce_ShipsAndRetires(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	for range 20 {
		h.record(good)
	}
	if err := h.once(); err != nil {
		t.Fatal(err)
	}
	if got := len(r.Stored()); got != 20 {
		t.Errorf("%d stored, want 20", got)
	}
	if got := append(h.names("episodes"), h.names("outbox")...); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if got := len(h.names("shipped")); got != 21 {
		t.Errorf("%d names in shipped, want 20 tarballs and the receipts", got)
	}
	if err := h.once(); err != nil || len(r.Puts()) != 20 {
		t.Errorf("a second run: %v, %d PUTs; want none more", err, len(r.Puts()))
	}
}

func TestOnce_OutcomeOfEachAnswer(t *testing.T) {
	for _, a := range wire.Answers() {
		t.Run(string(a.Kind), func(t *testing.T) {
			r := clienttest.Start(t, nil)
			r.Refuse(good, wire.NewProblem(a.Kind, "because"))
			h := newHost(t, r)
			id := h.record(good)
			err := h.once()
			aside := []string{string(id)}
			puts := 1
			switch a.Action {
			case wire.Quarantine, wire.Conflict:
				if err != nil {
					t.Errorf("set aside is not left: %v", err)
				}
			case wire.Repack:
				puts = 2
			default:
				aside = nil
				if left, ok := errors.AsType[*ship.LeftError](err); !ok || left.Queue.Waiting+left.Queue.Held != 1 {
					t.Errorf("got %v, want one left", err)
				}
				if !disk.Exists(disk.OS{}, filepath.Join(h.dir, "outbox", string(id)+wire.TarballSuffix)) {
					t.Error("the tarball is gone")
				}
			}
			if diff := cmp.Diff(aside, h.names("quarantine")); diff != "" {
				t.Errorf("quarantine (-want +got):\n%s", diff)
			}
			if got := len(r.Puts()); got != puts {
				t.Errorf("%d PUTs, want %d", got, puts)
			}
			if aside != nil {
				h.checkAside(id, a)
			}
		})
	}
}

// A pong does not end a wait that began after its ping was sent.
func TestRun_PongFromBeforeTheRefusal(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.cfg.Ship.PingEvery = config.Duration(time.Second)
	asked, answer, puts := make(chan bool), make(chan bool), make(chan int)
	var pings int // one at a time
	r.OnPing = func(http.ResponseWriter, *http.Request) bool {
		switch pings++; pings {
		case 2: // the first one opened the uplink
			asked <- true
			<-answer
		case 3:
			puts <- len(r.Puts())
		}
		return false
	}
	r.Refuse(good, wire.NewProblem(wire.TokenUsed, "because"))
	_, stop := h.run()
	<-asked
	h.record(good)
	h.until("the refused upload waits", func() bool {
		st, err := spool.LoadState(disk.OS{}, h.dir)
		return err == nil && st.Pause != nil
	})
	answer <- true
	if n := <-puts; n != 1 {
		t.Errorf("%d PUTs before the next ping, want 1", n)
	}
	stop()
}

func (h *host) checkAside(id ident.EpisodeID, a wire.Answer) {
	h.t.Helper()
	sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
	reason, err := sp.ReasonOf(id)
	if err != nil {
		h.t.Fatal(err)
	}
	if reason.Kind != a.Kind || reason.Fix == "" || reason.Policy != "policy-1" || reason.Retry == (a.Action == wire.Conflict) {
		h.t.Errorf("reason %+v", reason)
	}
	kept := disk.Exists(disk.OS{}, filepath.Join(h.dir, "quarantine", string(id), string(id)+wire.TarballSuffix))
	if kept != (a.Action == wire.Conflict) {
		h.t.Errorf("tarball kept: %v", kept)
	}
	if got := append(h.names("episodes"), h.names("outbox")...); len(got) != 0 {
		h.t.Errorf("left behind: %v", got)
	}
}

// The older system re-sent 4,465 refused episodes at 1 per second for 5 hours.
func TestRun_GateRefusesACommitOnce(t *testing.T) {
	r := clienttest.Start(t, nil)
	r.Refuse(bad, wire.NewProblem(wire.Gated, "not you"))
	h := newHost(t, r)
	h.cfg.Ship.PingEvery = config.Duration(50 * time.Millisecond)
	for range 200 {
		h.record(bad)
	}
	after := h.record(good)
	s, stop := h.run()
	h.until("the good one passes the held ones", func() bool { return r.Stored()[after] != "" })
	h.until("200 are held", func() bool { return s.Queue().Held == 200 })
	h.until("none waits", func() bool { q := s.Queue(); return q.Waiting == 0 && q.Oldest.IsZero() })
	h.until("several pings", func() bool { return len(r.Pings()) > 4 })
	stop()
	s, stop = h.run() // a restart remembers
	n := len(r.Pings())
	h.until("several pings", func() bool { return len(r.Pings()) > n+4 })
	refused := func() (n int) {
		for _, p := range r.Puts() {
			if p.Commit == bad && p.Status == http.StatusPreconditionFailed {
				n++
			}
		}
		return n
	}
	if got := refused(); got != 1 {
		t.Fatalf("%d refused PUTs, want 1", got)
	}
	r.Become("store-1", "policy-2") // still refused: one more
	h.until("a second refusal", func() bool { return refused() == 2 })
	h.until("all are held again", func() bool { return s.Queue().Held == 200 })
	r.Refuse(bad, nil)
	r.Become("store-1", "policy-3")
	h.until("all are stored", func() bool { return len(r.Stored()) == 201 })
	stop()
	if got := refused(); got != 2 {
		t.Errorf("%d refused PUTs in all, want 2", got)
	}
}

func TestRun_QuarantinedOncePerPolicy(t *testing.T) {
	r := clienttest.Start(t, nil)
	r.Refuse(bad, wire.NewProblem(wire.TooLarge, "no"))
	h := newHost(t, r)
	h.cfg.Ship.PingEvery = config.Duration(50 * time.Millisecond)
	id := h.record(bad)
	_, stop := h.run()
	h.until("set aside", func() bool { return len(h.names("quarantine")) == 1 })
	stop()
	_, stop = h.run()
	n := len(r.Pings())
	h.until("several pings", func() bool { return len(r.Pings()) > n+4 })
	if got := len(r.Puts()); got != 1 {
		t.Errorf("%d PUTs under one policy, want 1", got)
	}
	r.Refuse(bad, nil)
	r.Become("store-1", "policy-2")
	h.until("stored", func() bool { return r.Stored()[id] != "" })
	h.until("nothing aside", func() bool { return len(h.names("quarantine")) == 0 && len(h.names("episodes")) == 0 })
	stop()
	if got := len(r.Puts()); got != 2 {
		t.Errorf("%d PUTs, want 2", got)
	}
}

func TestRun_ReceiverLosesWhatItStored(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	h.cfg.Ship.PingEvery = config.Duration(50 * time.Millisecond)
	for range 10 {
		h.record(good)
	}
	_, stop := h.run()
	h.until("all are stored", func() bool { return len(r.Stored()) == 10 })
	want := r.Stored()
	h.until("all are retired", func() bool { return len(h.names("shipped")) == 11 })
	r.Become("store-2", "policy-1") // restored from nothing
	h.until("all are stored again", func() bool { return len(r.Stored()) == 10 })
	h.until("all are retired again", func() bool { return len(h.names("shipped")) == 11 })
	stop()
	if diff := cmp.Diff(want, r.Stored()); diff != "" {
		t.Errorf("other bytes than before (-want +got):\n%s", diff)
	}
	if got := h.names("outbox"); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestRun_WaitsForCredentialsAndNewWork(t *testing.T) {
	r := clienttest.Start(t, nil)
	r.RemoveCredentials(t)
	h := newHost(t, r)
	states := make(chan string, 1000)
	h.opts = func(o *ship.Options) { o.Notify = func(s string) { states <- s } }
	h.record(good)
	_, stop := h.run()
	h.until("it says that it waits", func() bool {
		select {
		case s := <-states:
			return len(s) > 30 && s[:30] == "STATUS=waiting for credentials"
		default:
			return false
		}
	})
	r.IssueHost(t)
	h.until("it ships without a restart", func() bool { return len(r.Stored()) == 1 })
	id := h.record(good)
	h.until("new work is noticed at once", func() bool { return r.Stored()[id] != "" })
	stop()
	pings := r.Pings()
	if last := pings[len(pings)-1]; last.Leaving || last.BootID != "boot-1" {
		t.Errorf("last ping %+v, want the boot id, and no word of leaving: only the program stopped", last)
	}
}

// A restart of the program must not suppress the alert about a host that stays on.
func TestRun_SaysLeavingOnlyWithTheMachine(t *testing.T) {
	var down atomic.Int32 // so many pings are not answered
	r := clienttest.Start(t, func(r *clienttest.Receiver) {
		r.OnPing = func(w http.ResponseWriter, _ *http.Request) bool {
			if down.Add(-1) < 0 {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
	})
	h := newHost(t, r)
	change := make(chan bool)
	h.opts = func(o *ship.Options) {
		o.Leaving = func(context.Context) bool { return true }
		o.Sleeps = func(ctx context.Context, tell func(bool)) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case asleep := <-change:
					tell(asleep)
				}
			}
		}
	}
	said := func() (all []bool) {
		for _, p := range r.Pings() {
			all = append(all, p.Leaving)
		}
		return all
	}
	_, stop := h.run()
	h.until("it pings", func() bool { return len(said()) > 0 })
	change <- true
	h.until("it says that it leaves", func() bool { s := said(); return s[len(s)-1] })
	change <- false
	h.until("it is back", func() bool { s := said(); return !s[len(s)-1] })
	if st, err := spool.LoadState(disk.OS{}, h.dir); err != nil || st.Unreached.IsZero() {
		t.Errorf("what waited while it slept is held against it: %+v %v", st, err)
	}
	down.Store(1) // the receiver is being restarted
	stop()
	if s := said(); !s[len(s)-1] {
		t.Errorf("said %v, want leaving at last: the machine goes down", s)
	}
}

// TestOnce_UnpackableIsSetAside: what cannot become a tarball is quarantined and delays no
// other episode: neither a pipe without a writer nor a link to the outside.
func TestOnce_UnpackableIsSetAside(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	inPlaceOf := func(file string, make func(path string) error) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, file)
			return errors.Join(os.RemoveAll(path), make(path))
		}
	}
	link := func(path string) error { return os.Symlink(elsewhere, path) }
	pipe := func(path string) error { return syscall.Mkfifo(path, 0o660) }
	for name, spoil := range map[string]func(dir string) error{
		"symlink":            inPlaceOf("telemetry-proc.jsonl", link),
		"pipe":               inPlaceOf("telemetry-proc.jsonl", pipe),
		"meta.json symlink":  inPlaceOf(episode.MetaFile, link),
		"meta.json pipe":     inPlaceOf(episode.MetaFile, pipe),
		"meta.json folder":   inPlaceOf(episode.MetaFile, func(path string) error { return os.Mkdir(path, 0o770) }),
		"meta.json no JSON":  inPlaceOf(episode.MetaFile, func(path string) error { return os.WriteFile(path, []byte("{"), 0o660) }),
		"meta.json missing":  inPlaceOf(episode.MetaFile, func(string) error { return nil }),
		"meta.json too long": inPlaceOf(episode.MetaFile, func(path string) error { return os.WriteFile(path, make([]byte, 2<<20), 0o660) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := clienttest.Start(t, nil)
			h := newHost(t, r)
			spoilt, other := h.record(good), h.record(good)
			if err := spoil(filepath.Join(h.dir, "episodes", string(spoilt))); err != nil {
				t.Fatal(err)
			}
			if err := h.once(); err != nil {
				t.Fatal(err)
			}
			if r.Stored()[other] == "" || r.Stored()[spoilt] != "" {
				t.Errorf("stored %v, want only %s", r.Stored(), other)
			}
			sp := &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: h.dir}}
			if reason, err := sp.ReasonOf(spoilt); err != nil || reason.Kind != spool.Unpackable || reason.Retry || reason.Fix == "" {
				t.Errorf("reason %+v, %v", reason, err)
			}
		})
	}
}

// TestRun_LinkedFolderIsLeftAlone: the target of a link in the place of an episode is
// neither sent nor removed.
func TestRun_LinkedFolderIsLeftAlone(t *testing.T) {
	r := clienttest.Start(t, nil)
	h := newHost(t, r)
	_, stop := h.run()
	first := h.record(good)
	h.until("it watches", func() bool { return r.Stored()[first] != "" })
	away := t.TempDir()
	for _, f := range []string{episode.MetaFile, episode.DoneMarker} {
		if err := os.WriteFile(filepath.Join(away, f), []byte("{}"), 0o660); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(away, filepath.Join(h.dir, "episodes", "01J00000000000000000009999")); err != nil {
		t.Fatal(err)
	}
	after := h.record(good)
	h.until("one that came later is shipped", func() bool { return r.Stored()[after] != "" })
	stop()
	if len(r.Stored()) != 2 || len(h.names("quarantine")) != 0 || !disk.Exists(disk.OS{}, filepath.Join(away, episode.MetaFile)) {
		t.Errorf("stored %v, set aside %v; want the link left alone", r.Stored(), h.names("quarantine"))
	}
}

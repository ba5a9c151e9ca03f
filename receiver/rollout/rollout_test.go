package rollout_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/clock"
	"cis490/internal/disk"
	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver/local"
	"cis490/receiver/rollout"
)

// harness is a receiver's folder of releases and a fleet with arbitrary pings.
type harness struct {
	t       *testing.T
	dir     string
	key     rel.SecretKey
	now     time.Time
	own     *wire.Update
	hosts   []ident.Host
	updates map[ident.Host]*wire.Update
	known   map[ident.Host]rollout.Report // as contacts.json has it
	// damaged is why contacts cannot be read.
	damaged error
	clock   func() clock.Reading
	passed  time.Duration // since boot
	r       *rollout.Controller
}

func newHarness(t *testing.T, hosts int) *harness {
	t.Helper()
	key, _, err := rel.NewKey()
	must(t, err)
	r := &harness{
		t:       t,
		dir:     local.ReleasesDir(t.TempDir()),
		key:     key,
		now:     time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		own:     &wire.Update{},
		updates: map[ident.Host]*wire.Update{},
		known:   map[ident.Host]rollout.Report{},
	}
	for i := range hosts {
		h := ident.Host(fmt.Sprintf("lab-%02d", i))
		r.hosts = append(r.hosts, h)
		r.updates[h] = &wire.Update{}
	}
	must(t, os.MkdirAll(r.dir, 0o755))
	r.open()
	return r
}

// open starts the rollout, as each start of serve does.
func (r *harness) open() {
	r.r = rollout.Open(rollout.Options{
		Releases: local.Open(
			local.Options{FS: disk.OS{}, Dir: filepath.Dir(r.dir)},
		).Releases, SilentAfter: time.Hour, Build: version.Info{Commit: commitOf(0), OS: "linux", Arch: "amd64"},
		Own:   func() (*wire.Update, error) { return r.own, nil },
		Known: func() (map[ident.Host]rollout.Report, error) { return r.known, r.damaged },
		Now:   func() time.Time { return r.now }, Clock: r.clock, Log: slog.New(slog.DiscardHandler),
	})
	r.r.Step()
}

func commitOf(seq uint64) ident.Commit { return ident.Commit(fmt.Sprintf("%040x", seq)) }

func (r *harness) publish(seq uint64, arches ...string) {
	r.t.Helper()
	if len(arches) == 0 {
		arches = []string{"amd64"}
	}
	dir := r.t.TempDir()
	m := rel.Manifest{V: 1, Product: rel.Product, Seq: seq, Version: fmt.Sprintf("v%d", seq), Commit: commitOf(seq)}
	for _, a := range arches {
		path := filepath.Join(dir, "cis490-linux-"+a)
		must(r.t, os.WriteFile(path, []byte(fmt.Sprint(a, seq)), 0o644))
		b, err := rel.Describe(disk.OS{}, path, rel.MaxBinary)
		must(r.t, err)
		m.Artifacts = append(m.Artifacts, rel.Binary{OS: "linux", Arch: a, Blob: b})
	}
	manifest, signature, err := r.key.Sign(m)
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(dir, rel.ManifestFile), manifest, 0o644))
	must(r.t, os.WriteFile(filepath.Join(dir, rel.SignatureFile), signature, 0o644))
	b, err := rel.ReadDirectory(disk.OS{}, dir, rel.Keyring{r.key.Public()})
	must(r.t, err)
	must(r.t, b.Publish(disk.OS{}, r.dir))
	r.order(rel.Order{Verb: rel.OrderPublish, Seq: seq})
}

func (r *harness) order(o rel.Order) {
	r.t.Helper()
	r.now = r.now.Add(time.Second)
	must(r.t, rel.Give(disk.OS{}, r.dir, func() time.Time { return r.now }, o))
}

// round lets every host ping once.
func (r *harness) round() {
	r.now = r.now.Add(5 * time.Minute)
	for _, h := range r.hosts {
		r.r.Ping(h, wire.Ping{OS: "linux", Arch: "amd64", Update: r.updates[h]})
		r.known[h] = rollout.Report{At: r.now, OS: "linux", Arch: "amd64", Update: r.updates[h]}
	}
	r.r.Step()
}

func (r *harness) stage(seq uint64) rel.Stage {
	r.t.Helper()
	s, err := rel.ReadRollout(disk.OS{}, r.dir)
	must(r.t, err)
	if p := s.Of(seq); p != nil {
		return p.Stage
	}
	return ""
}

func (r *harness) want(what string, seq uint64, stage rel.Stage) {
	r.t.Helper()
	if got := r.stage(seq); got != stage {
		r.t.Fatalf("%s: release %d is at %q, want %q", what, seq, got, stage)
	}
}

// offered returns the hosts that are offered the release of this seq.
func (r *harness) offered(seq uint64) (hosts []ident.Host) {
	for _, h := range r.hosts {
		if p, ok := r.r.Offer("linux", "amd64", h); ok && p.Manifest.Seq == seq {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

func (r *harness) prove(seq uint64, hosts ...ident.Host) {
	for _, h := range hosts {
		r.updates[h] = &wire.Update{Good: wire.Running{Seq: seq}}
	}
}

func (r *harness) fail(seq uint64, hosts ...ident.Host) {
	for _, h := range hosts {
		r.updates[h] = &wire.Update{RolledBack: []wire.RolledBack{{Running: wire.Running{Seq: seq}, At: r.now, Why: "panic"}}}
	}
}

// TestRollout_Stages: the receiver, a canary, a quarter, all; a restart of serve
// between any two changes nothing.
func TestRollout_Stages(t *testing.T) {
	r := newHarness(t, 100)
	r.publish(1)
	step := func() { r.round(); r.open(); r.round() }
	step()
	r.want("published", 1, rel.StageReceiver)
	if got := r.offered(1); len(got) != 0 {
		t.Errorf("offered to %v while the receiver tries it", got)
	}
	r.own.Good.Seq = 1
	step()
	r.want("proven on the receiver", 1, rel.StageCanary)
	canary := r.offered(1)
	if len(canary) != 1 {
		t.Fatalf("canaries: %v", canary)
	}
	step()
	if got := r.offered(1); len(got) != 1 || got[0] != canary[0] {
		t.Errorf("another canary: %v", got)
	}
	r.prove(1, canary...)
	step()
	r.want("proven on the canary", 1, rel.StageQuarter)
	quarter := r.offered(1)
	if len(quarter) < 10 || len(quarter) > 45 {
		t.Errorf("a quarter of 100 is %d", len(quarter))
	}
	r.prove(1, quarter[:len(quarter)-1]...)
	step()
	r.want("one of the quarter is missing", 1, rel.StageQuarter)
	r.prove(1, quarter...)
	step()
	r.want("proven on the quarter", 1, rel.StageAll)
	if got := r.offered(1); len(got) != 100 {
		t.Errorf("all are %d", len(got))
	}
	if commits, _ := r.r.Commits(); fmt.Sprint(commits) != fmt.Sprint([]ident.Commit{commitOf(0), commitOf(1)}) {
		t.Errorf("commits of the gate: %v", commits)
	}
	// The next one leaves the former to those that do not take part yet.
	r.publish(2)
	r.own.Good.Seq = 2
	step()
	if got := r.offered(1); len(got) != 99 {
		t.Errorf("%d are offered the former release", len(got))
	}
}

// TestRollout_ContactsLost: without known hosts, serve waits until all of them had time
// to ping.
func TestRollout_ContactsLost(t *testing.T) {
	r := newHarness(t, 40)
	r.publish(1)
	r.own.Good.Seq = 1
	r.round()
	r.prove(1, r.offered(1)...)
	r.round()
	r.want("proven on the canary", 1, rel.StageQuarter)
	r.known, r.damaged = nil, errors.New("contacts.json: half")
	r.open()
	r.want("contacts are lost", 1, rel.StageQuarter)
	r.now = r.now.Add(5 * time.Minute)
	r.r.Step()
	r.want("nobody was known yet", 1, rel.StageQuarter)
}

// TestRollout_Withdraws: by one canary, or by two later hosts; never by one.
func TestRollout_Withdraws(t *testing.T) {
	r := newHarness(t, 40)
	r.publish(1)
	r.own.Good.Seq = 1
	r.round()
	canary := r.offered(1)
	r.fail(1, canary...)
	r.round()
	r.want("the canary rolled back", 1, rel.StageWithdrawn)
	if got := r.offered(1); len(got) != 0 {
		t.Errorf("withdrawn, but offered to %v", got)
	}
	if commits, _ := r.r.Commits(); len(commits) != 2 || len(r.r.Blocked()) != 0 {
		t.Errorf("a withdrawn release left the gate: %v", commits)
	}

	r.publish(2)
	r.own.Good.Seq = 2
	r.round()
	r.prove(2, r.offered(2)...)
	r.round()
	r.want("proven", 2, rel.StageQuarter)
	quarter := r.offered(2)
	r.fail(2, quarter[0])
	r.round()
	r.want("one of the quarter rolled back", 2, rel.StageQuarter)
	r.fail(2, quarter[1])
	r.round()
	r.want("two of the quarter rolled back", 2, rel.StageWithdrawn)

	r.publish(3)
	r.own.RolledBack = []wire.RolledBack{{Running: wire.Running{Seq: 3}}}
	r.round()
	r.want("the receiver rolled back", 3, rel.StageWithdrawn)
}

// TestRollout_Canary: only a host that pings, is healthy and has a binary; when it falls
// silent another one is tried.
func TestRollout_Canary(t *testing.T) {
	r := newHarness(t, 3)
	silent, ill, other := r.hosts[0], r.hosts[1], r.hosts[2]
	r.publish(1)
	r.own.Good.Seq = 1
	r.r.Ping(silent, wire.Ping{OS: "linux", Arch: "amd64", Update: &wire.Update{}})
	r.now = r.now.Add(2 * time.Hour)
	r.r.Ping(ill, wire.Ping{OS: "linux", Arch: "amd64", Update: &wire.Update{}, Failing: []string{"disk.reserve"}})
	r.r.Ping(other, wire.Ping{OS: "linux", Arch: "riscv64", Update: &wire.Update{}})
	r.r.Step()
	if got := r.offered(1); len(got) != 0 {
		t.Fatalf("canary: %v", got)
	}
	r.r.Ping(other, wire.Ping{OS: "linux", Arch: "amd64"})
	r.r.Step()
	if got := r.offered(1); len(got) != 0 {
		t.Fatalf("a host that nothing updates is canary: %v", got)
	}
	r.r.Ping(other, wire.Ping{OS: "linux", Arch: "amd64", Update: &wire.Update{}})
	r.r.Step()
	if got := r.offered(1); len(got) != 1 || got[0] != other {
		t.Fatalf("canary: %v", got)
	}
	r.now = r.now.Add(61 * time.Minute)
	r.r.Ping(silent, wire.Ping{OS: "linux", Arch: "amd64", Update: &wire.Update{}})
	r.r.Step()
	if got := r.offered(1); len(got) != 2 {
		t.Errorf("after the canary fell silent: %v", got)
	}
}

// TestRollout_AClockThatIsSetRight: a jump of the clock does not count as a day of the
// quarter's trials, and a time in the future does not extend them.
func TestRollout_AClockThatIsSetRight(t *testing.T) {
	for _, off := range []time.Duration{-48 * time.Hour, 48 * time.Hour} {
		r := newHarness(t, 100)
		r.clock = func() clock.Reading { return clock.Reading{Wall: r.now, Boot: "a", Up: r.passed} }
		r.now = r.now.Add(off)
		r.open()
		r.publish(1)
		r.own.Good.Seq = 1
		r.passed += time.Second // of the order
		r.passed += 5 * time.Minute
		r.round()
		r.prove(1, r.offered(1)...)
		r.passed += 5 * time.Minute
		r.round()
		r.want("proven on the canary", 1, rel.StageQuarter)
		r.now = r.now.Add(-off)
		r.passed += 5 * time.Minute
		r.round()
		r.want("set right", 1, rel.StageQuarter)
		for range 24*12 + 1 {
			r.passed += 5 * time.Minute
			r.round()
		}
		r.want("a day later", 1, rel.StageAll)
	}
}

// TestRollout_CanaryDoesNotBegin: a canary that pings but never tries the release, because a
// person installed another version there, delays it for two hours.
func TestRollout_CanaryDoesNotBegin(t *testing.T) {
	r := newHarness(t, 2)
	r.publish(1)
	r.own.Good.Seq = 1
	r.round()
	first := r.offered(1)
	for range 2*12 - 1 {
		r.round()
	}
	if got := r.offered(1); len(first) != 1 || len(got) != 1 {
		t.Fatalf("canaries: %v, within two hours %v", first, got)
	}
	r.round()
	r.round()
	if got := r.offered(1); len(got) != 2 {
		t.Errorf("after two hours: %v", got)
	}
	r.round()
	r.prove(1, r.offered(1)...)
	r.round()
	r.round()
	r.want("proven on the second canary", 1, rel.StageAll)
}

// TestRollout_CanaryDeclines: a canary that refuses the release for a reason of its own
// is soon followed by another. Its refusal of an earlier release does not count until it
// had time to look at this one.
func TestRollout_CanaryDeclines(t *testing.T) {
	r := newHarness(t, 2)
	r.publish(1)
	r.own.Good.Seq = 1
	r.round()
	first := r.offered(1)
	r.updates[first[0]] = &wire.Update{Refused: "release v1 waits for this machine to be mended"}
	for range 6 {
		r.round()
	}
	if got := r.offered(1); len(got) != 1 {
		t.Fatalf("canaries within the half hour: %v", got)
	}
	r.round()
	if got := r.offered(1); len(got) != 2 {
		t.Fatalf("after the half hour: %v", got)
	}
	for _, h := range r.hosts {
		if h != first[0] {
			r.prove(1, h)
		}
	}
	r.round()
	r.want("proven on the second canary", 1, rel.StageQuarter)
}

func TestRollout_Orders(t *testing.T) {
	r := newHarness(t, 20)
	r.publish(1)
	r.round()
	for _, want := range []rel.Stage{rel.StageCanary, rel.StageQuarter} {
		r.order(rel.Order{Verb: rel.OrderPromote, Seq: 1})
		r.r.Step()
		r.want("promoted", 1, want)
	}
	r.order(rel.Order{Verb: rel.OrderWithdraw, Seq: 1, Block: true, Reason: "labels are late"})
	r.r.Step()
	r.want("withdrawn", 1, rel.StageWithdrawn)
	if got := r.r.Blocked(); len(got) != 1 || got[0] != commitOf(1) {
		t.Errorf("blocked: %v", got)
	}
	r.fail(1, r.hosts[:5]...)
	r.round()
	r.order(rel.Order{Verb: rel.OrderPromote, Seq: 1, Force: true})
	r.round()
	r.want("forced", 1, rel.StageAll)
	r.open()
	r.round()
	r.want("forced, and serve restarted", 1, rel.StageAll)
}

// TestRollout_ReceiverOfAnotherArch: it cannot try what is not for it.
func TestRollout_ReceiverOfAnotherArch(t *testing.T) {
	r := newHarness(t, 1)
	r.publish(1, "arm64")
	r.round()
	r.want("no binary for the receiver", 1, rel.StageCanary)
	if _, ok := r.r.Offer("linux", "amd64", r.hosts[0]); ok {
		t.Error("a host is offered what is not for it")
	}
}

// TestRollout_UnreadableFile: a damaged file holds releases back, and loses none.
func TestRollout_UnreadableFile(t *testing.T) {
	r := newHarness(t, 10)
	r.publish(1)
	r.round()
	must(t, os.WriteFile(rel.RolloutPath(r.dir), []byte("{"), 0o644))
	r.open()
	r.want("started over", 1, rel.StageReceiver)
	if b, err := os.ReadFile(rel.RolloutPath(r.dir)); err != nil || !strings.Contains(string(b), "own_commits") {
		t.Errorf("%s %v", b, err)
	}
}

// TestOpen_LongHistory: rollout.json names every host for every release; a large
// fleet's is read for years.
func TestOpen_LongHistory(t *testing.T) {
	r := newHarness(t, 1)
	r.publish(1)
	r.order(rel.Order{Verb: rel.OrderWithdraw, Seq: 1})
	r.r.Step()
	s, err := rel.ReadRollout(disk.OS{}, r.dir)
	must(t, err)
	for i := range 100_000 {
		s.Of(1).Clean = append(s.Of(1).Clean, ident.Host(fmt.Sprintf("lab-%06d", i)))
	}
	b, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(rel.RolloutPath(r.dir), b, 0o644))
	r.open()
	r.publish(2) // which makes it be written again
	r.r.Step()
	s, err = rel.ReadRollout(disk.OS{}, r.dir)
	if err != nil || len(s.Of(1).Clean) != 100_000 {
		t.Errorf("a history of more than a megabyte: %v, %d hosts", err, len(s.Of(1).Clean))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpen_NotReadable: while the disk does not let the releases be read, their
// commits are not known, which is another thing than none; then nothing is lost.
func TestOpen_NotReadable(t *testing.T) {
	for _, name := range []string{"orders.jsonl", "rollout.json"} {
		r := newHarness(t, 1)
		r.publish(1)
		r.order(rel.Order{Verb: rel.OrderWithdraw, Seq: 1})
		r.r.Step()
		path := filepath.Join(r.dir, name)
		before, err := os.ReadFile(rel.RolloutPath(r.dir))
		must(t, err)
		must(t, os.Rename(path, path+".away"))
		must(t, os.Mkdir(path, 0o755))
		r.open()
		if all, err := r.r.Commits(); err == nil {
			t.Errorf("%s cannot be read: the commits are %v", name, all)
		}
		must(t, os.Remove(path))
		must(t, os.Rename(path+".away", path))
		r.r.Step()
		all, err := r.r.Commits()
		if err != nil || !slices.Contains(all, commitOf(0)) || !slices.Contains(all, commitOf(1)) {
			t.Errorf("%s can be read again: the commits are %v, %v", name, all, err)
		}
		if after, err := os.ReadFile(rel.RolloutPath(r.dir)); err != nil || string(after) != string(before) {
			t.Errorf("%s can be read again: rollout.json was\n%s, is\n%s, %v", name, before, after, err)
		}
	}
}

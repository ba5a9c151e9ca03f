package ship_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

var (
	modelSteps = flag.Int("steps", 300, "steps of each seed of TestModel")
	modelSeeds = flag.Uint64("seeds", 2, "seeds of TestModel")
)

// enoughSteps is how many steps, of all seeds together, cover every answer.
const enoughSteps = 50_000

// TestModel runs a shipper through random steps in which anything may happen at any time:
// new episodes, crashes at any call to the disk with any part of the unsynced data lost,
// restarts, a failing disk, every answer of the table and every fake one, other policies,
// other stores, jumps of the clock, hangs, certificates that appear and disappear. After
// each step: nothing is lost; no episode or commit is refused twice by one policy; what is
// sent is what was recorded; and in the end everything is where it belongs.
func TestModel(t *testing.T) {
	var mu sync.Mutex
	answers := map[string]int{}
	t.Cleanup(func() { met(t, answers) })
	for seed := range *modelSeeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				m.run(*modelSteps)
				mu.Lock()
				defer mu.Unlock()
				for what, n := range m.answers {
					answers[what] += n
				}
			})
		})
	}
}

type model struct {
	*world
	t       *testing.T
	disk    *faultdisk.Disk
	dice    *rand.Rand    // of the steps
	clock   time.Duration // beside the true time
	ids     []ident.EpisodeID
	broken  map[ident.EpisodeID]bool // cannot be packed
	big     map[ident.EpisodeID]bool // has grown beyond what small ones are
	stuck   atomic.Bool              // the watchdog asked for a restart
	faults  bool                     // a fault of the disk is in store
	faulty  time.Time                // when one last was
	stop    context.CancelFunc
	done    chan struct{}
	spool   *spool.Spool
	noticed chan ident.EpisodeID // by the watch
	history []string
	log     tail
}

// tail keeps the end of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines[max(0, len(l.lines)-40):], string(p))
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

const modelDir = "/data"

var modelCommits = []ident.Commit{good, bad, "3333333333333333333333333333333333333333"}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, disk: faultdisk.New("/"), broken: map[ident.EpisodeID]bool{}, big: map[ident.EpisodeID]bool{},
		dice: rand.New(rand.NewPCG(seed, 4)),
	}
	m.world = &world{
		rnd: rand.New(rand.NewPCG(seed, 490)), serial: 1, gated: map[ident.Commit]bool{}, unwanted: map[ident.EpisodeID]wire.Kind{},
		damaged: map[ident.EpisodeID]int{}, stored: map[ident.EpisodeID]ident.Digest{}, truth: map[ident.EpisodeID]ident.Digest{},
		confirmed: map[ident.EpisodeID]bool{}, refused: map[refusalKey]*refusals{}, answers: map[string]int{}, fail: m.fatalf,
	}
	return m
}

func (m *model) fatalf(format string, args ...any) {
	// A panic, because the shipper's goroutine may be the one that finds it.
	panic(fmt.Sprintf(format, args...) + "\nthe last steps:\n" + strings.Join(m.history[max(0, len(m.history)-30):], "\n") +
		"\nthe shipper's log:\n" + m.log.String())
}

func (m *model) now() time.Time { return time.Now().Add(m.clock) }

// tarballOf returns a valid, uncompressed tarball of an episode that has only meta.json.
func tarballOf(id ident.EpisodeID, meta []byte) []byte {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	_ = w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: string(id) + "/" + episode.MetaFile, Size: int64(len(meta)),
		Mode: 0o644,
	}) // to memory
	_, _ = w.Write(meta)
	_ = w.Close()
	n := plain.Len()
	frame := binary.LittleEndian.AppendUint32(nil, 0xfd2fb528)                        // zstd's magic number
	frame = binary.LittleEndian.AppendUint16(append(frame, 1<<6|1<<5), uint16(n-256)) // of one segment, its size
	frame = append(frame, byte(n<<3|1), byte(n<<3>>8), byte(n<<3>>16))                // the last block, not compressed
	return append(frame, plain.Bytes()...)
}

// Pack packs in memory, with the same result as the real packer.
func (m *model) Pack(ctx context.Context, w io.Writer, src episode.Source) (episode.Packed, error) {
	id := src.ID
	m.mu.Lock()
	broken, big := m.broken[id], m.big[id]
	m.mu.Unlock()
	if big && src.Most > 0 {
		return episode.Packed{}, &episode.Larger{Most: src.Most}
	}
	if broken {
		return episode.Packed{}, &episode.Unpackable{File: "x", Why: "is a symlink"}
	}
	b, err := disk.ReadFile(m.disk, path.Join(src.Dir, episode.MetaFile), 1<<20)
	if err != nil {
		return episode.Packed{}, err
	}
	var meta episode.Meta
	if err := json.Unmarshal(b, &meta); err != nil {
		return episode.Packed{}, err
	}
	b = tarballOf(id, b)
	for _, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
		if err := m.travel(ctx, "pack", time.Second/4); err != nil {
			return episode.Packed{}, err
		}
		src.Moved(len(part))
		if _, err := w.Write(part); err != nil {
			return episode.Packed{}, err
		}
	}
	return episode.Packed{Digest: digestOf(b), Content: digestOf(b), Size: int64(len(b)), Meta: meta}, nil
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

func (m *model) run(steps int) {
	m.start()
	for n := range steps {
		what := m.step()
		m.history = append(m.history, fmt.Sprintf("%6d %s %s", n, time.Now().Format("15:04:05"), what))
		time.Sleep(time.Duration(m.dice.Int64N(int64(20 * time.Second))))
		synctest.Wait()
		if m.stuck.Load() {
			m.kill(faultdisk.All)
			m.start()
		}
		if m.faults {
			m.faulty = time.Now()
		}
		m.check(n%50 == 0)
	}
	m.heal()
	m.tidy()
	m.t.Logf("%d episodes, answers: %v", len(m.ids), m.answers)
}

// step performs one random step.
func (m *model) step() string {
	switch d := m.dice.IntN(100); {
	case d < 25:
		return m.record(1 + m.dice.IntN(3))
	case d < 40:
		return m.turn()
	case d < 46:
		return m.change()
	case d < 48:
		return m.replace()
	case d < 50:
		return m.forget()
	case d < 53:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.serial = int64(m.dice.IntN(3)) * m.dice.Int64N(1000)
		return fmt.Sprint("certificate ", m.serial)
	case d < 57:
		fault := []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short}[m.dice.IntN(3)]
		at := 1 + m.dice.IntN(20)
		m.disk.Arm(at, fault)
		m.faults = true
		return fmt.Sprintf("fault %d of the disk at call %d", fault, at)
	case d < 63:
		at := 1 + m.dice.IntN(40)
		m.disk.Arm(at, faultdisk.PowerLoss)
		m.faulty = time.Now()
		time.Sleep(time.Duration(m.dice.Int64N(int64(30 * time.Second))))
		s := faultdisk.Survive(m.dice.IntN(4))
		m.kill(s)
		m.start()
		return fmt.Sprintf("crash at call %d, survives %d", at, s)
	case d < 66:
		m.stop()
		m.end()
		m.jump()
		m.start()
		return fmt.Sprint("restart, clock ", m.clock)
	}
	return "time passes"
}

// record writes complete episodes, durably.
func (m *model) record(n int) string {
	for range n {
		id := ident.EpisodeID(fmt.Sprintf("01J%023d", len(m.ids)))
		at := path.Join(modelDir, "episodes", string(id))
		meta, err := json.Marshal(episode.Meta{
			SchemaVersion: episode.MetaSchema, Episode: id, Host: "lab-01", Experiment: ident.Digest(strings.Repeat("0", 64)),
			Code: episode.Code{Commit: modelCommits[m.dice.IntN(len(modelCommits))]}, Verdict: episode.Accepted,
		})
		if err != nil {
			m.fatalf("%v", err)
		}
		m.mu.Lock()
		m.ids, m.truth[id] = append(m.ids, id), digestOf(tarballOf(id, meta))
		switch m.dice.IntN(25) {
		case 0:
			m.broken[id] = true
		case 1:
			m.unwanted[id] = []wire.Kind{wire.TooLarge, wire.Malformed, wire.Unstamped}[m.dice.IntN(3)]
		case 2:
			m.damaged[id] = 1 + m.dice.IntN(3)
		case 4, 5, 6, 7, 8:
			m.big[id] = true
		case 3:
			m.stored[id] = ident.Digest(strings.Repeat("f", 64)) // what another machine of this name sent
		}
		m.mu.Unlock()
		m.onSoundDisk(func() error {
			return errors.Join(disk.MkdirAll(m.disk, at, 0o770), disk.ReplaceBytes(m.disk, path.Join(at, episode.MetaFile), 0o660, meta),
				disk.ReplaceBytes(m.disk, path.Join(at, episode.DoneMarker), 0o660, nil))
		})
		if m.dice.IntN(2) == 0 { // the others are left to the scan
			select {
			case m.noticed <- id:
			default:
			}
		}
	}
	return fmt.Sprint(n, " new episodes")
}

// onSoundDisk runs preparation that is not under test.
func (m *model) onSoundDisk(do func() error) {
	m.disk.Arm(0, faultdisk.Fail)
	m.faults = false
	if err := do(); err != nil {
		m.fatalf("%v", err)
	}
}

// turn changes how the receiver, or the network to it, behaves.
func (m *model) turn() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mode, m.pings = "", m.dice.IntN(2) == 0
	if m.dice.IntN(2) == 0 {
		if n := m.dice.IntN(len(lies) + len(wire.Answers())); n < len(lies) {
			m.mode = lies[n]
		} else {
			m.mode = string(wire.Answers()[n-len(lies)].Kind) // answers about one episode are not a mode
		}
	}
	return fmt.Sprintf("mode %q, pings answered %t", m.mode, m.pings)
}

// change switches to another policy.
func (m *model) change() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	clear(m.gated)
	for _, c := range modelCommits {
		m.gated[c] = m.dice.IntN(3) == 0
	}
	for id := range m.unwanted {
		if m.dice.IntN(3) == 0 {
			delete(m.unwanted, id)
		}
	}
	return fmt.Sprintf("policy %d, gated %v", m.epoch, m.gated)
}

// replace makes the receiver a restored one, with a part of its episodes.
func (m *model) replace() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store++
	for id := range m.stored {
		if m.dice.IntN(2) == 0 {
			delete(m.stored, id)
		}
	}
	return fmt.Sprint("store ", m.store)
}

// forget loses an episode silently.
func (m *model) forget() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.ids { // not in the order of a map: a seed is reproducible
		if m.dice.IntN(20) == 0 {
			delete(m.stored, id)
		}
	}
	return "receiver forgets some"
}

func (m *model) jump() {
	if m.dice.IntN(3) == 0 {
		m.clock = time.Duration(m.dice.Int64N(int64(96*time.Hour))) - 48*time.Hour
	}
}

// start opens the spool and starts a shipper, as the command does.
func (m *model) start() {
	m.disk.Arm(0, faultdisk.Fail)
	m.faults, m.faulty = false, time.Now()
	m.stuck.Store(false)
	m.mu.Lock()
	m.killed, m.noticed, m.noPuts = make(chan struct{}), make(chan ident.EpisodeID, 100), time.Time{}
	m.mu.Unlock()
	logger := slog.New(slog.NewTextHandler(&m.log, nil))
	sp, err := spool.Open(spool.Options{FS: m.disk, Dir: modelDir, Now: m.now, Logger: logger})
	if err != nil {
		m.fatalf("open: %v", err)
	}
	found, err := sp.Recover()
	if err != nil {
		m.fatalf("recover: %v", err)
	}
	state, err := spool.LoadState(m.disk, modelDir)
	if err != nil {
		m.fatalf("state: %v", err)
	}
	m.spool = sp
	m.forgive(state)
	m.noOrphans()
	conf := config.DefaultLabHost().Ship
	conf.ShippedKeepDays = 1
	s, err := ship.New(ship.Options{
		Host: "lab-01", Config: conf, Build: version.Info{Version: "1.2.3"}, Spool: sp, State: state,
		NewPacker: func() (spool.Packer, error) { return m, nil },
		Receiver:  m.world, Credentials: m.world, Logger: logger, Now: m.now, Watch: m.watch,
		Notify: func(s string) {
			if s == "WATCHDOG=trigger" {
				m.stuck.Store(true)
			}
		},
	}, found.Interrupted)
	if err != nil {
		m.fatalf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	go func() {
		defer close(m.done)
		_ = s.Run(ctx) // its disk may lose power at any time
	}()
}

// watch reports new episodes as inotify does.
func (m *model) watch(ctx context.Context, found func(ident.EpisodeID)) error {
	noticed := m.noticed
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-noticed:
			found(id)
		}
	}
}

// end waits until the shipper has ended.
func (m *model) end() {
	select {
	case <-m.done:
	case <-time.After(time.Minute): // as the service manager does
		close(m.killed)
		<-m.done
	}
	_ = m.spool.Close() // after a loss of power it fails
}

// kill cuts the shipper's disk off and ends it.
func (m *model) kill(s faultdisk.Survive) {
	m.disk.Arm(1, faultdisk.PowerLoss)
	close(m.killed)
	m.stop()
	<-m.done
	_ = m.spool.Close() // the power is gone
	m.disk.Reboot(s)
}

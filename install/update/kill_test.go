package update_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// childVariable makes this test binary a machine that updates itself in a folder until it
// is killed.
const childVariable = "CIS490_TEST_UPDATE"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		m.Run() // only TestChild
		return
	}
	os.Exit(m.Run())
}

// saved is a harness between processes.
type saved struct {
	Secret string                  `json:"secret"`
	Offer  wire.Offer              `json:"offer"`
	Blobs  map[ident.Digest][]byte `json:"blobs"`
	Bad    bool                    `json:"bad"`
}

// TestChild is the process that TestKill kills.
func TestChild(t *testing.T) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		t.Skip("started by TestKill only")
	}
	var s saved
	b, err := os.ReadFile(filepath.Join(dir, "rig.json"))
	must(t, err)
	must(t, json.Unmarshal(b, &s))
	hours, err := strconv.Atoi(os.Getenv(childVariable + "_HOURS"))
	must(t, err)
	key, err := manifest.ParseSecretKey([]byte(s.Secret), "")
	must(t, err)
	r := &harness{
		t: t, fs: disk.OS{}, dir: filepath.Join(dir, "opt"), key: key, boot: "boot", offer: s.Offer, blobs: s.Blobs,
		now: time.Date(2026, 5, 1, 12+hours, 0, 0, 0, time.UTC),
	}
	r.source, r.prepare = r, (*update.System)(nil).Prepare
	r.units = func(v string) []update.Daemon {
		return []update.Daemon{{Name: "ship", Active: v == "v1" || !s.Bad}}
	}
	r.findings = func(string) update.Findings { return update.Findings{} }
	for range 4 {
		r.run()
	}
}

// TestKill kills the updating process at 50 random moments: the target of current always
// runs, and in the end the update was applied or rolled back.
func TestKill(t *testing.T) {
	kills := 0
	for round := 0; kills < 50; round++ {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "opt"), 0o755))
		r := newHarness(t, disk.OS{}, filepath.Join(dir, "opt"))
		r.publish("v2", 2)
		bad, ends := round%2 == 1, "v2"
		if bad {
			ends = "v1"
		}
		secret, err := r.key.File()
		must(t, err)
		b, err := json.Marshal(saved{string(secret), r.offer, r.blobs, bad})
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "rig.json"), b, 0o600))
		for try := 0; ; try++ {
			cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
			cmd.Env = append(os.Environ(), childVariable+"="+dir, childVariable+"_HOURS="+strconv.Itoa(8*try))
			must(t, cmd.Start())
			killed := make(chan bool, 1)
			if try < 6 { // the later ones may finish
				timer := time.AfterFunc(time.Duration(rand.Int64N(int64(120*time.Millisecond))), func() { killed <- cmd.Process.Kill() == nil })
				_ = cmd.Wait() // killed, mostly
				timer.Stop()
			} else {
				must(t, cmd.Wait())
			}
			if len(killed) > 0 {
				kills++
			}
			if c, g := r.runs("current"), r.runs("good"); (c != "v1" && c != "v2") || (g != "v1" && g != "v2") {
				t.Fatalf("round %d, try %d: current runs %q, good %q", round, try, c, g)
			}
			if try == 6 {
				break
			}
		}
		r.want("in the end", ends, ends)
	}
	t.Logf("%d kills", kills)
}

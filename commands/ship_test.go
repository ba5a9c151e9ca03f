package commands_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// on runs a command on the site's lab host.
func (r *site) on(args ...string) (out, errs string, code int) {
	r.tb.Helper()
	cmd := exec.Command("cis490", append(args, "--config", r.path("lab.toml"))...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return o.String(), e.String(), exit.ExitCode()
	}
	r.must(err)
	return o.String(), e.String(), 0
}

// daemon runs the shipper until the test ends.
func (r *site) daemon() {
	r.tb.Helper()
	cmd := exec.Command("cis490", "ship", "--config", r.path("lab.toml"))
	cmd.Stderr = r.create("ship.log")
	r.must(cmd.Start())
	r.tb.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	r.until("the shipper is at work", func() bool { return strings.Contains(r.read("ship.log"), "shipper started") })
}

func (r *site) names(dir string) []string {
	entries, err := os.ReadDir(r.path(dir))
	r.must(err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestShip_Ping(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	r.record(2, 1<<10)
	out, errs, code := r.on("ship", "--ping")
	for _, want := range []string{
		r.url + " answered in ", "clock      0s off\n",
		"store      " + strings.TrimSpace(r.read("rx/store_id")) + "\n",
		"gate       accepts this build\n", "known as   " + siteHost + "\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing from %q; %s", want, out, errs)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	out, _, code = r.on("ship", "--ping", "--json")
	var pong wire.Pong
	if err := json.Unmarshal([]byte(out), &pong); err != nil || code != 0 || pong.StoreID != strings.TrimSpace(r.read("rx/store_id")) ||
		pong.Policy == "" {
		t.Errorf("exit code %d, %q: %v", code, out, err)
	}
	if n := len(r.names("data/episodes")); n != 2 || r.stored() != 0 {
		t.Errorf("a ping moved episodes: %d wait, %d are stored", n, r.stored())
	}
	r.stopServing()
	if out, errs, code = r.on("ship", "--ping"); code != 69 || out != "" || !strings.Contains(errs, "hint:") {
		t.Errorf("without a receiver: exit code %d, %q, %q", code, out, errs)
	}
}

func TestReconcile_Repair(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	r.record(3, 1<<10)
	if _, errs, code := r.on("ship", "--once"); code != 0 {
		t.Fatal(errs)
	}
	if out, _, code := r.on("reconcile"); code != 0 || out != "the receiver has all 3 shipped episodes\n" {
		t.Errorf("exit code %d, %q", code, out)
	}
	r.forget()
	out, errs, code := r.on("reconcile")
	if code != 1 || strings.Count(out, "missing 01J") != 3 || !strings.Contains(out, "the receiver lacks 3 of 3 episodes\n") ||
		!strings.Contains(errs, "reconcile --repair") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	if left := r.names("data/outbox"); len(left) > 0 {
		t.Errorf("only asked, and yet it moved %v", left)
	}
	out, errs, code = r.on("reconcile", "--repair")
	if code != 0 || !strings.Contains(out, "moved them back to the outbox") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	if out, errs, code = r.on("ship", "--once"); code != 0 || out != "3 shipped, 0 quarantined, 0 left\n" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	r.until("all are in their places", func() bool { return r.stored() == 3 })
	if out, _, code = r.on("reconcile"); code != 0 || !strings.HasPrefix(out, "the receiver has all 3 ") {
		t.Errorf("exit code %d, %q", code, out)
	}

	// While a shipper runs it moves nothing, and the fix says what to do.
	r.daemon()
	r.until("the shipper has compared", func() bool { return strings.Contains(r.read("ship.log"), "reconciled") })
	r.forget()
	out, errs, code = r.on("reconcile", "--repair")
	if code != 75 || !strings.Contains(errs, "another shipper") || !strings.Contains(errs, "hint:") {
		t.Errorf("beside a shipper: exit code %d, %q, %q", code, out, errs)
	}
	if n := len(r.names("data/shipped")); n != 5 {
		t.Errorf("%d names in shipped, want 3 tarballs, the receipts and the lock", n)
	}
}

// TestEpisodeRetry_BesideShipper: the running shipper ships a released episode at once.
func TestEpisodeRetry_BesideShipper(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	r.record(2, 1<<10)
	id := ident.EpisodeID(r.names("data/episodes")[0])
	r.must(os.Symlink("/etc/passwd", r.path("data/episodes/"+string(id)+"/x")))
	r.daemon()
	r.until("one is quarantined, the other shipped", func() bool { return r.stored() == 1 && len(r.names("data/quarantine")) == 1 })
	if out, _, _ := r.on("episode", "list"); !regexp.MustCompile(string(id) + " +quarantined .*symlink").MatchString(out) {
		t.Errorf("list: %s", out)
	}
	r.must(os.Remove(r.path("data/quarantine/" + string(id) + "/episode/x")))
	if out, errs, code := r.on("episode", "retry", string(id)); code != 0 || out != string(id)+" moved back to the outbox\n" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	r.until("it is shipped, and nothing is left behind", func() bool {
		return r.stored() == 2 && len(r.names("data/episodes"))+len(r.names("data/quarantine"))+len(r.names("data/outbox")) == 0
	})
}

// TestShipOnce_Progress: a terminal shows bytes, rate and remaining time; a file gets none
// of it.
func TestShipOnce_Progress(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	config := r.read("lab.toml")
	r.write("lab.toml", []byte(config+"[ship]\nbandwidth_per_second = \"256 KiB\"\n"))
	r.record(3, 1<<20)
	screen, tty := r.pty()
	cmd := exec.Command("cis490", "ship", "--once", "--config", r.path("lab.toml"))
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=")
	cmd.Stderr = tty
	r.must(cmd.Start())
	seen := make(chan string)
	go func() {
		b, _ := io.ReadAll(screen) // it ends with an error once the other side is closed
		seen <- string(b)
	}()
	r.must(cmd.Wait())
	r.must(tty.Close())
	text := <-seen
	if !regexp.MustCompile(`\r\x1b\[K\d shipped, \d+ KiB at \d+ KiB/s, \d left, about \ds to go`).MatchString(text) ||
		!strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("the terminal showed %q", text)
	}
	r.forget()
	r.record(1, 1<<20)
	if _, errs, code := r.on("ship", "--once"); code != 0 || strings.Contains(errs, "\r") || strings.Contains(errs, "left") {
		t.Errorf("exit code %d; a file got %q", code, errs)
	}
	if files, _ := filepath.Glob(r.path("data/outbox/*")); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

// pty returns both sides of a terminal.
func (r *site) pty() (screen, tty *os.File) {
	r.tb.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	r.must(err)
	r.tb.Cleanup(func() { _ = screen.Close() })
	conn, err := screen.SyscallConn()
	r.must(err)
	var n int
	var failed error
	r.must(conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if failed == nil {
			n, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	r.must(failed)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	r.must(err)
	return screen, tty
}

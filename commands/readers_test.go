package commands_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/internal/peercred"
)

// A user of the machine, by number: no account is needed.
const (
	readersGroup = 64490
	somebody     = 64491
)

// readersSite is a receiver with a folder for the readers' socket, and a program that any
// user can run.
func readersSite(t *testing.T) (r *site, run func(who string, args ...string) string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	r = newSite(t)
	r.stopServing()
	ops := r.path("rx/ops")
	r.must(errors.Join(os.Chmod(r.path("rx"), 0o751), os.Mkdir(ops, 0o750), os.Chown(ops, 0, readersGroup), os.Chmod(ops, 0o750|os.ModeSetgid),
		os.Chmod(r.path("ca"), 0o750)))
	for d := r.dir; d != os.TempDir(); d = filepath.Dir(d) {
		r.must(os.Chmod(d, 0o755))
	}
	put(t, r.path("etc/receiver.toml"), r.read("rx.toml"))
	r.serve()
	r.ready()
	r.until("the readers' socket", func() bool { fi, err := os.Stat(ops + "/read.sock"); return err == nil && fi.Mode().Perm() == 0o660 })
	return r, func(who string, args ...string) string {
		as := &syscall.Credential{Uid: somebody, Gid: somebody}
		switch who {
		case "root":
			as = nil
		case "member":
			as.Groups = []uint32{readersGroup}
		}
		return moments.ReplaceAllString(attempt(t, r.path("etc"), as, args, r.dir), "TIME")
	}
}

// moments match times, which differ from one run to the next.
var moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// TestReaders_EveryCommand runs every command as root, as a member of the group and as
// somebody else. A member reads what these commands show, as root does; with every other
// command the group makes no difference.
func TestReaders_EveryCommand(t *testing.T) {
	_, run := readersSite(t)
	reads := []string{"status", "host list", "host show", "alerts list", "doctor"}
	skip := []string{"serve", "bootstrap", "orchestrate", "ship", "demo"} // run until they are stopped
	read := 0
	for _, l := range leaves(t, func([]string) {}) {
		name := strings.Join(l.path, " ")
		if slices.Contains(skip, name) {
			continue
		}
		args := append(slices.Clone(l.path), argumentsOf(t, l)...)
		member, stranger := run("member", args...), run("stranger", args...)
		if !slices.Contains(reads, name) {
			if member != stranger {
				t.Errorf("%s: as a member\n%s\nas somebody else\n%s", name, member, stranger)
			}
			continue
		}
		read++
		if name == "doctor" { // other checks are skipped for each
			if skipped(t, member) >= skipped(t, stranger) {
				t.Errorf("doctor skips as many checks for a member:\n%s\nas for somebody else\n%s", member, stranger)
			}
			continue
		}
		if root := run("root", args...); !strings.HasPrefix(root, "exit 0\n") || member != root {
			t.Errorf("%s: as root\n%s\nas a member\n%s", name, root, member)
		}
		if denied := strings.HasPrefix(stranger, "exit 77\n") && strings.Contains(stranger, "usermod -aG cis490-ops"); !denied &&
			name != "alerts list" { // everybody on the machine may read open alerts
			t.Errorf("%s: as somebody else\n%s", name, stranger)
		}
	}
	if read != len(reads) {
		t.Errorf("%d commands read, want %d", read, len(reads))
	}
}

func skipped(t *testing.T, report string) int {
	t.Helper()
	m := regexp.MustCompile(`(\d+) skipped`).FindStringSubmatch(report)
	if m == nil {
		t.Fatalf("no number of skipped checks:\n%s", report)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReaders_SocketChangesNothing sends the readers' socket every request that changes
// something elsewhere, and every method to its own paths.
func TestReaders_SocketChangesNothing(t *testing.T) {
	r, _ := readersSite(t)
	client := peercred.Client(r.path("rx/ops/read.sock"), time.Minute)
	send := func(method, path string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://serve"+path, strings.NewReader("{}"))
		r.must(err)
		res, err := client.Do(req)
		r.must(err)
		r.must(res.Body.Close())
		return res.StatusCode
	}
	own := []string{"/v1/status", "/v1/hosts", "/v1/hosts/lab-01", "/v1/alerts", "/v1/alerts/history?from=2026-01-01T00:00:00Z", "/v1/checks"}
	for _, path := range own {
		if got := send(http.MethodGet, path); got != http.StatusOK {
			t.Errorf("GET %s: %d", path, got)
		}
	}
	for _, path := range append(own, "/v1/archive/lab-01", "/v1/catalogue", "/v1/compare", "/v1/tokens", "/v1/tokens/lab-01", "/v1/patterns/x",
		"/v1/hosts/lab-01/decommission", "/v1/hosts/lab-01/readmit", "/v1/joins", "/v1/ca/rotate", "/v1/ca/retire", "/act", "/") {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if got := send(method, path); got != http.StatusMethodNotAllowed && got != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, path, got)
			}
		}
	}
}

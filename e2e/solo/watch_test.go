//go:build solo

package solo

import (
	"bufio"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
)

// The size of the fleet: the most hosts that a receiver supports, and the rows of a day.
const (
	fleetHosts = 2000
	fleetRows  = 20_000
)

// fleetData writes the input of fleet-check: an index with the rows of a day and history
// before it, and a contact for each host.
func fleetData(t *testing.T, history int) string {
	t.Helper()
	dir, now := t.TempDir(), time.Now().UTC()
	f, err := os.Create(filepath.Join(dir, "index.jsonl"))
	must(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	const digest = "0123456789012345678901234567890123456789012345678901234567890123"
	put := func(at time.Time, i int) {
		_, _ = fmt.Fprintf(w, `{"v":1,"received_at":%q,"host":"lab-%04d","episode":"01ARZ3NDEKTSV4RRFFQ69G5FAV",`+
			`"sha256":%q,"size":4096,"commit":%q}`+"\n", at.Format(time.RFC3339Nano), i%fleetHosts, digest, commit)
	}
	for i := range history {
		put(now.Add(-25*time.Hour-time.Duration(history-i)*time.Second), i)
	}
	for i := range fleetRows {
		put(now.Add(-time.Duration(fleetRows-i)*time.Second/20), i)
	}
	must(t, w.Flush())
	must(t, f.Close())
	doc := contacts.Contacts{V: 1, WrittenAt: now, Receiver: contacts.Receiver{Ready: true}, Hosts: map[ident.Host]*contacts.Contact{}}
	for i := range fleetHosts {
		doc.Hosts[ident.Host(fmt.Sprintf("lab-%04d", i))] = &contacts.Contact{
			LastPing: now, LastContact: now, LastAccepted: now,
			Version: "1.0.0", Commit: commit,
		}
	}
	b, err := json.Marshal(doc)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, receiver.ContactsDoc), b, 0o600))
	return dir
}

// fastest runs a command n times and returns its shortest wall time. It logs the shortest CPU
// time too, because commands wait on a busy machine.
func fastest(t *testing.T, n int, ok func(code int) bool, name string, args ...string) (took time.Duration) {
	t.Helper()
	var busy time.Duration
	for range n {
		cmd := exec.Command(name, args...)
		cmd.Stdout = io.Discard
		began := time.Now()
		err := cmd.Run()
		d := time.Since(began)
		if cmd.ProcessState == nil || !ok(cmd.ProcessState.ExitCode()) {
			t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
		}
		if took == 0 || d < took {
			took = d
		}
		if cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); busy == 0 || cpu < busy {
			busy = cpu
		}
	}
	t.Logf("%s %s…: %s of processor time", name, args[0], busy.Round(time.Millisecond))
	return took
}

func zero(code int) bool { return code == 0 }

// TestBench_FleetCheck compares a run of fleet-check over a long history with one over a
// short history, and with jq counting hosts in the same window.
func TestBench_FleetCheck(t *testing.T) {
	long, short := fleetData(t, 10_000_000), fleetData(t, 100_000)
	check := func(dir string) time.Duration {
		return fastest(t, 7, zero, "cis490", "fleet-check", "--dry-run", "--json", "--data-dir", dir)
	}
	much := check(long)
	little := check(short)
	figure(t, "FleetCheck/rows=10M", much.Seconds()*1e3, "ms", float64(much)/float64(little), "of-100k-rows")
	figure(t, "FleetCheck/rows=100k", little.Seconds()*1e3, "ms")
	since := time.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	jq := fastest(t, 1, zero, "jq", "-n",
		"reduce (inputs | select(.received_at >= \""+since+"\")) as $r ({}; .[$r.host] = $r.received_at) | length",
		filepath.Join(short, "index.jsonl"))
	figure(t, "FleetCheck/jq=all-of-100k", jq.Seconds()*1e3, "ms")
	tail := fastest(t, 1, zero, "sh", "-c",
		"tail -n 20000 "+filepath.Join(long, "index.jsonl")+" | jq -n 'reduce inputs as $r ({}; .[$r.host] = $r.received_at) | length'")
	figure(t, "FleetCheck/jq=last-20k", tail.Seconds()*1e3, "ms")
}

// TestBench_HostHealth measures a request for the health reports of all hosts.
func TestBench_HostHealth(t *testing.T) {
	r := newHarness(t, "")
	h := r.enroll("lab-one")
	operator := "secret"
	snapshot := check.Report{Schema: check.Schema, Host: "x", Role: "lab-host"}
	for i := range 40 {
		snapshot.Checks = append(snapshot.Checks, check.Row{
			ID: fmt.Sprintf("check.%d", i), Title: "A check of about this length", Status: check.Pass,
			Detail: "a result with a value and its unit, 12 MiB", TookMS: 3, Hard: true,
		})
	}
	store := contacts.NewSnapshots(local.Folder(disk.OS{}, r.path("data")))
	for i := range fleetHosts {
		_, err := store.Put(ident.Host(fmt.Sprintf("lab-%04d", i)), time.Now(), snapshot)
		must(t, err)
	}
	r.start()
	ask := func(etag string) (time.Duration, int64, string, int) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.addr+"/v1/host-health", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+operator)
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		began := time.Now()
		res, err := h.client.Do(req)
		must(t, err)
		n, err := io.Copy(io.Discard, res.Body)
		must(t, err)
		must(t, res.Body.Close())
		return time.Since(began), n, res.Header.Get("ETag"), res.StatusCode
	}
	var took []time.Duration
	var size int64
	var etag string
	const asked = 15
	busy := r.cpuTime()
	for range asked {
		d, n, tag, status := ask("")
		if status != http.StatusOK {
			t.Fatal(status)
		}
		took, size, etag = append(took, d), n, tag
	}
	busy = (r.cpuTime() - busy) / asked
	slices.Sort(took)
	figure(t, "HostHealth", took[0].Seconds()*1e3, "ms-best", took[len(took)/2].Seconds()*1e3, "ms-median", busy.Seconds()*1e3,
		"cpu-ms-of-serve", float64(size)/(1<<20), "MiB")
	if etag != "" {
		d, n, _, status := ask(etag)
		t.Logf("the same, unchanged: %d, %d bytes", status, n)
		figure(t, "HostHealth", d.Seconds()*1e3, "ms-unchanged")
	}
	dir := r.path("data/host-health")
	jq := fastest(t, 1, zero, "sh", "-c", "jq -s . "+dir+"/lab-*.json")
	figure(t, "HostHealth", jq.Seconds()*1e3, "ms-of-jq")
}

// TestBench_Doctor measures doctor --list, and doctor on a receiver and on a lab host of
// it. Without an authority, some checks fail on both.
func TestBench_Doctor(t *testing.T) {
	r := newHarness(t, "")
	h := r.enroll("lab-one")
	r.start()
	list := fastest(t, 10, zero, "cis490", "doctor", "--list")
	figure(t, "Doctor/what=list", list.Seconds()*1e3, "ms")
	ran := func(code int) bool { return code == 0 || code == 1 }
	all := fastest(t, 5, ran, "cis490", "doctor", "--role", "receiver", "--config", r.path("receiver.toml"))
	figure(t, "Doctor/what=receiver", all.Seconds()*1e3, "ms")
	config := h.installHost()
	out, err := exec.Command("cis490", "doctor", "--config", config, "--only", "receiver.auth").CombinedOutput()
	if err != nil {
		t.Fatalf("the receiver does not answer this host: %s", out)
	}
	all = fastest(t, 5, ran, "cis490", "doctor", "--role", "lab-host", "--config", config)
	figure(t, "Doctor/what=lab-host", all.Seconds()*1e3, "ms")
}

// installHost writes a lab host's files and returns the path of its config.
func (h *host) installHost() string {
	r := h.r
	r.t.Helper()
	key, err := pki.EncodeKey(h.pair.PrivateKey.(crypto.Signer))
	must(r.t, err)
	for _, dir := range []string{"certs", "spool"} {
		must(r.t, os.Mkdir(r.path(dir), 0o755))
	}
	r.write("certs/ca.crt", string(pki.EncodeCerts(r.ca.Cert)))
	r.write("certs/lab-host.pem", string(pki.EncodeCerts(h.pair.Leaf))+string(key))
	r.write("certs/bearer", "bearer-"+string(h.name)+"\n")
	r.write("lab-host.toml", fmt.Sprintf("host = %q\ndata_dir = %q\ncerts_dir = %q\n[receiver]\nurl = \"https://%s\"\n"+
		"[authority]\nurl = \"https://127.0.0.1:1\"\n",
		h.name, r.path("spool"), r.path("certs"), r.addr))
	return r.path("lab-host.toml")
}

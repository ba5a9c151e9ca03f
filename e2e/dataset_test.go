//go:build e2e

package e2e

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
	"cis490/e2e/npm"
)

// twoClasses is an experiment with a profile of each class.
const twoClasses = `schema = 1
name = "two-classes"
[[profile]]
name = "rest"
class = "benign"
weight = 1
command = ["/bin/sleep", "0.5"]
[[profile.phase]]
name = "clean"
event = "start"
budget = "10s"
[[profile]]
name = "hash"
class = "malicious"
weight = 1
command = ["/bin/sh", "-c", "sha256sum /usr/bin/* >/dev/null"]
[[profile.phase]]
name = "armed"
event = "start"
budget = "20s"
`

// TestDataSet: three hosts record two profiles of two classes. One command on the receiver
// makes tables for training, validation and test; another one, on a machine that has nothing
// but a token, makes shards. DuckDB and tar find in them what the receiver has.
func TestDataSet(t *testing.T) {
	inLane(t)
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed here")
		}
	}
	f := newFleet(t, "lab-01", "lab-02", "lab-03")
	for _, h := range f.hosts {
		h.Write("/etc/cis490/experiment.toml", twoClasses, 0o644)
		setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": "1s"})
		h.Run("systemctl restart cis490-orchestrator")
	}
	const list = "cis490 episode list --ndjson"
	f.rx.Eventually(3*time.Minute, "episodes of each class of each host", `for h in lab-01 lab-02 lab-03; do for c in benign malicious; do `+
		list+` --host $h --class $c | grep -q . || exit 1; done; done`)
	for _, h := range f.hosts {
		stopRecording(h)
	}
	f.drain()
	f.rx.Eventually(time.Minute, "a complete catalogue", "test $("+list+" | wc -l) = $(grep -c '\"episode\"' /var/lib/cis490/index.jsonl)")

	f.rx.Run("cis490 export --out /srv/first --split host")
	tables := f.copyOut(f.rx, "/srv/first")
	counts := map[string]string{}
	for _, class := range []string{"benign", "malicious"} {
		counts[class] = f.rx.Run(list + " --class " + class + " | wc -l")
	}
	for i, rows := range npm.DuckDB(t, tables,
		"SELECT class, count(*) AS n FROM 'data/*/episodes-*.parquet' WHERE class <> '' GROUP BY ALL ORDER BY ALL",
		"SELECT class, count(DISTINCT episode) AS n FROM 'data/*/proc-*.parquet' WHERE class <> '' GROUP BY ALL ORDER BY ALL") {
		for _, row := range rows {
			if class := fmt.Sprint(row["class"]); fmt.Sprint(row["n"]) != counts[class] {
				t.Errorf("query %d: %v episodes are %s, the receiver has %s", i, row["n"], class, counts[class])
			}
		}
		if len(rows) != 2 {
			t.Errorf("query %d: %d classes", i, len(rows))
		}
	}
	hosts := npm.DuckDB(t, tables,
		"SELECT host, count(DISTINCT filename) AS n FROM read_parquet('data/*/episodes-*.parquet', filename = true) GROUP BY ALL")[0]
	for _, row := range hosts {
		if fmt.Sprint(row["n"]) != "1" {
			t.Errorf("%v is in %v splits", row["host"], row["n"])
		}
	}
	if len(hosts) != 3 {
		t.Errorf("%d hosts", len(hosts))
	}

	far := f.Boot("notebook")
	far.Push(lab.Binary(t), "/usr/local/bin/cis490")
	far.Write("/root/token", f.rx.Run("cis490 access-token create ada --role data 2>/dev/null"), 0o600)
	far.Write("/root/ca.crt", f.rx.Read("/var/lib/cis490-authority/trust.pem"), 0o644)
	far.Run("cis490 export --url https://collector.lab:8443 --ca /root/ca.crt --token-file /root/token --out /srv/shards --format webdataset")
	checkShards(t, f.copyOut(far, "/srv/shards"), f.rx.Run(list+" | wc -l"))
}

// copyOut copies a folder of a host to this machine.
func (f *fleet) copyOut(h *lab.Host, dir string) string {
	f.t.Helper()
	h.Run("tar -C " + dir + " -cf /root/out.tar .")
	to := f.t.TempDir()
	untar := exec.Command("tar", "-C", to, "-xf", "-")
	untar.Stdin = strings.NewReader(h.Read("/root/out.tar"))
	if out, err := untar.CombinedOutput(); err != nil {
		f.t.Fatalf("copy %s of %s: %v: %s", dir, h.Name, err, out)
	}
	return to
}

// checkShards compares shards with their manifest, and their number of episodes.
func checkShards(t *testing.T, dir, episodes string) {
	t.Helper()
	var m struct {
		Files []struct{ Path, SHA256 string }
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, file := range m.Files {
		content, err := os.ReadFile(filepath.Join(dir, file.Path))
		if err != nil {
			t.Fatal(err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(content)); sum != file.SHA256 {
			t.Errorf("%s has the digest %s, its manifest says %s", file.Path, sum, file.SHA256)
		}
		for r := tar.NewReader(strings.NewReader(string(content))); filepath.Ext(file.Path) == ".tar"; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file.Path, err)
			}
			key, _, _ := strings.Cut(filepath.Base(h.Name), ".")
			keys[key] = true
		}
	}
	if fmt.Sprint(len(keys)) != episodes {
		t.Errorf("%d episodes in the shards, the receiver has %s", len(keys), episodes)
	}
}

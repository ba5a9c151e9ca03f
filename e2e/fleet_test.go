//go:build e2e

// Package e2e has the scenarios of the fleet lab. Each tests a promise of the program on
// real systemd machines, with the binary that users install. `make e2e` runs all,
// `make e2e SCENARIO=TestName` one.
package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// A fleet is a receiver and its lab hosts.
type fleet struct {
	*lab.Lab
	t      *testing.T
	rx     *lab.Host
	hosts  []*lab.Host
	store  *objectStore // nil: tarballs are on the receiver's disk
	shared bool         // rows are in a database
}

// newFleet boots machines and installs them with the README's commands.
func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	return fleetIn(t, lab.New(t), names...)
}

// fleetIn is newFleet in an existing lab.
func fleetIn(t *testing.T, l *lab.Lab, names ...string) *fleet {
	t.Helper()
	f := &fleet{Lab: l, t: t}
	machines := f.BootAll(append([]string{"collector"}, names...)...)
	f.rx, f.hosts = machines[0], machines[1:]
	f.rx.Push(lab.Binary(t), "/root/cis490")
	f.rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443")
	f.chooseStore()
	for _, h := range f.hosts {
		f.join(h)
	}
	return f
}

// enroll runs token create on the receiver and pastes its output on the host.
func (f *fleet) enroll(h *lab.Host) {
	f.t.Helper()
	h.Run("cd /root\n" + f.rx.Run("cis490 token create "+h.Name))
}

// join enrolls a host that records lightExperiment, unless its config says otherwise.
func (f *fleet) join(h *lab.Host) {
	f.t.Helper()
	f.enroll(h)
	recordLight(h)
}

// lightExperiment has episodes of 3 s that need no CPU time. The loads of the built-in one
// would take more than half of all processors in a lab of ten hosts.
var lightExperiment = strings.Replace(shortExperiment, "0.3", "3", 1)

// recordLight has a host record lightExperiment, unless its config names another one.
func recordLight(h anyMachine) {
	h.Run(`cd /etc/cis490
grep -q '^# experiment = ' lab-host.toml || exit 0
cat >experiment.toml <<'end'
` + lightExperiment + `end
sed -i 's|^# experiment = .*|experiment = "/etc/cis490/experiment.toml"|' lab-host.toml &&
	systemctl restart cis490-shipper cis490-orchestrator`)
}

// A row is an entry of the receiver's index, or a host's receipt.
type row struct {
	ReceivedAt time.Time `json:"received_at"`
	Host       string    `json:"host"`
	Episode    string    `json:"episode"`
	Digest     string    `json:"sha256"`
}

// index returns the receiver's index.
func (f *fleet) index() []row {
	f.t.Helper()
	var rows []row
	if err := json.Unmarshal([]byte(f.rx.Run(f.state("index.jsonl")+" | jq -s .")), &rows); err != nil {
		f.t.Fatalf("read the index: %v", err)
	}
	return rows
}

// state returns the command that prints rows or a document of the receiver: index.jsonl,
// rejections.jsonl, contacts.json.
func (f *fleet) state(name string) string {
	if f.shared {
		return lab.StatePath + " " + name
	}
	return "cat /var/lib/cis490/" + name
}

// waitAccepted waits until the receiver has at least n episodes of the host.
func (f *fleet) waitAccepted(h *lab.Host, n int, limit time.Duration) {
	f.t.Helper()
	f.rx.Eventually(limit, fmt.Sprintf("%d accepted episodes of %s", n, h.Name),
		fmt.Sprintf(`test $(%s | grep -c '"host":"%s"') -ge %d`, f.state("index.jsonl"), h.Name, n))
}

// checkEachStoredOnce checks that each row of the receiver has its file and the other way
// round, that no episode has two rows, and that each receipt of a host has its row.
func (f *fleet) checkEachStoredOnce() {
	f.t.Helper()
	receipts := map[*lab.Host][]row{} // read first: hosts may go on shipping
	for _, h := range f.hosts {
		var all []row
		if err := json.Unmarshal([]byte(h.Run("jq -s . /var/lib/cis490/data/shipped/receipts.jsonl")), &all); err != nil {
			f.t.Fatalf("%s: receipts.jsonl: %v", h.Name, err)
		}
		receipts[h] = all
	}
	rows, sums := f.index(), f.sums()
	left := filesWithoutRow(sums, rows)
	for try := 0; len(left) > 0 && try < 5; try++ { // a file may be there a moment before its row
		left = filesWithoutRow(sums, f.index())
	}
	seen := map[string]row{}
	for _, r := range rows {
		if first, twice := seen[r.Episode]; twice {
			f.t.Errorf("episode %s is in the index twice: %v and %v", r.Episode, first, r)
		}
		seen[r.Episode] = r
		if got := sums[r.file()]; got != r.Digest {
			f.t.Errorf("row %v: its file has digest %q", r, got)
		}
	}
	if len(left) > 0 {
		f.t.Errorf("files without a row: %v", left)
	}
	for h, all := range receipts {
		for _, r := range all {
			if seen[r.Episode].Digest != r.Digest {
				f.t.Errorf("%s has a receipt for %s, the receiver has no such row", h.Name, r.Episode)
			}
		}
	}
}

// file returns the path of the row's tarball in the store.
func (r row) file() string { return fmt.Sprintf("./%s/%s.tar.zst", r.Host, r.Episode) }

// filesWithoutRow returns the files that have no row.
func filesWithoutRow(sums map[string]string, rows []row) []string {
	left := maps.Clone(sums)
	for _, r := range rows {
		delete(left, r.file())
	}
	return slices.Sorted(maps.Keys(left))
}

// A machine is a host or a guest.
type machine interface {
	Run(command string) string
	Eventually(limit time.Duration, what, command string) string
	Read(path string) string
	Write(path, content string, mode fs.FileMode)
}

// sums returns the digests of the tarballs, by the path that each has on a disk.
func (f *fleet) sums() map[string]string {
	if f.store != nil {
		return f.store.sums()
	}
	return sumsOf(f.rx)
}

// sumsOf returns the digests of a receiver's tarballs, by path.
func sumsOf(rx machine) map[string]string { return sumsBelow(rx, "/var/lib/cis490/episodes") }

// sumsBelow returns the digests of the files below a folder, by path.
func sumsBelow(m machine, dir string) map[string]string {
	sums := map[string]string{}
	for line := range strings.Lines(m.Run("cd " + dir + " && find . -type f ! -name .lock -exec sha256sum {} +")) {
		if sum, file, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			sums[file] = sum
		}
	}
	return sums
}

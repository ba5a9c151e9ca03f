//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// guestInit is the guest's first process. It loads the drivers of disk, balloon and virtio
// port, and reports one event over the serial port and one over the virtio port.
const guestInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
while read -r module; do insmod "$module"; done </modules
until ls /dev/vport*p1 >/dev/null 2>&1; do sleep 0.1; done
echo "event booted $(uname -r)" >/dev/ttyS1
sleep 2
echo "event reading" >$(ls /dev/vport*p1)
dd if=/dev/vda of=/dev/null bs=64k
sleep 2
poweroff -f
`

// guestBuild builds the guest's kernel, initramfs and disk on the host.
const guestBuild = `set -e
mkdir -p /srv/guest/root/bin /srv/guest/root/dev /srv/guest/root/proc /srv/guest/root/sys && cd /srv/guest
cp /bin/busybox root/bin/
version=$(ls /lib/modules)
for m in virtio_pci virtio_blk virtio_balloon virtio_console; do modprobe -S $version --show-depends $m; done |
	awk '$1 == "insmod" && !seen[$2]++ {print $2}' >root/modules
cpio -pdm root <root/modules
mv /root/init root/init
(cd root && find . | cpio -o -H newc) | gzip -1 >initrd.img
cp /boot/vmlinuz-$version vmlinuz
head -c 16M /dev/urandom >disk.img
rm -r root && chmod 644 *`

const guestExperiment = `schema = 1
name = "guest"
[[profile]]
name = "debian"
weight = 1
[profile.machine]
kernel = "/srv/guest/vmlinuz"
initrd = "/srv/guest/initrd.img"
disk = "/srv/guest/disk.img"
append = "quiet"
memory = "256 MiB"
[[profile.phase]]
name = "booting"
event = "start"
budget = "3m"
[[profile.phase]]
name = "clean"
event = "booted"
budget = "1m"
[[profile.phase]]
name = "reading"
event = "reading"
budget = "1m"
`

// TestGuest records a QEMU guest with Debian's cloud kernel in the sandbox of the real
// unit. The guest reports its phases, and the receiver's episode has the rows of /proc
// and QMP.
func TestGuest(t *testing.T) {
	inLane(t)
	f := fleetIn(t, lab.New(t, "qemu-system-x86", "linux-image-cloud-amd64", "busybox-static", "cpio"), "lab-01")
	h := f.hosts[0]
	h.Write("/root/init", guestInit, 0o755)
	h.Run(guestBuild)
	h.Write("/etc/cis490/experiment.toml", guestExperiment, 0o644)
	setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": "1s"})
	h.Run("systemctl restart cis490-orchestrator")
	find := `for e in /var/lib/cis490/episodes/lab-01/*.tar.zst; do test -e $e || continue; zstd -dcq $e | ` +
		`tar -xO --wildcards '*/meta.json' | jq -se '.[0].profile == "debian"' >/dev/null && echo $e && exit; done; false`
	tarball := f.rx.Eventually(5*time.Minute, "an episode of the guest", find)
	h.Run("systemctl stop cis490-orchestrator")
	f.rx.Run("mkdir -p /root/e && cd /root/e && zstd -dcq " + tarball + " | tar -x --strip-components=1")

	meta := f.rx.Run("cat /root/e/meta.json")
	if got := f.rx.Run(`jq -r '.verdict, .reason // ""' /root/e/meta.json`); strings.TrimSpace(got) != "accepted" {
		t.Errorf("the guest's episode: %s\n%s", meta, h.Journal("cis490-orchestrator"))
	}
	if got := f.rx.Run(`jq -r '[.phase, .event] | join("<")' /root/e/labels.jsonl`); got != "booting<start\nclean<booted\nreading<reading" {
		t.Errorf("labels:\n%s", got)
	}
	if got := f.rx.Run(`jq -r 'select(.event == "booted") | .detail' /root/e/events.jsonl`); !strings.Contains(got, "cloud-amd64") {
		t.Errorf("the guest's kernel is %q", got)
	}
	if notes := f.rx.Run("jq -r '.notes // [] | .[]' /root/e/meta.json"); !strings.Contains(notes, "software emulation: open /dev/kvm") ||
		strings.Contains(notes, "could reach beyond its folder") {
		t.Errorf("notes of a host without KVM: %q", notes)
	}
	for what, test := range map[string]string{
		"QEMU's process":    `jq -e -s 'any(.[].procs[]; .comm == "qemu-system-x86" and .rss_bytes > 50000000)' /root/e/telemetry-proc.jsonl`,
		"its CPU time":      `jq -e -s '.[-1].user_ms > 500' /root/e/telemetry-proc.jsonl`,
		"a running machine": `jq -e -s 'any(.[]; .running and .status == "running" and .balloon_bytes == 268435456)' /root/e/telemetry-qmp.jsonl`,
		"what it has read":  `jq -e -s 'any(.[]; .blocks[0].read_bytes >= 16777216)' /root/e/telemetry-qmp.jsonl`,
		"its end": `jq -e -s 'any(.[]; .source == "qmp" and .event == "shutdown" and (.detail | contains("guest-shutdown")))' ` +
			`/root/e/events.jsonl`,
		"a sound episode": "cis490 episode verify " + tarball,
	} {
		if r := f.rx.Try(test); r.Code != 0 {
			t.Errorf("the episode does not show %s: %s", what, r)
		}
	}
	t.Logf("%s", f.rx.Run("jq -c '{rows, sampling, load, notes}' /root/e/meta.json"))
}

package lab

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// guestDebian is the hosts' image with a kernel. A guest reads its name and address from
// a second disk, and takes commands on a port.
func guestDebian() recipe {
	r := debian()
	r.Packages = append(r.Packages, "linux-image-cloud-amd64", "initramfs-tools")
	r.Files["etc/fstab"] = ""
	r.Files["etc/systemd/system/lab-setup.service"] = `[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service
Before=network-pre.target sysinit.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'udevadm settle && tar -xf /dev/vdb -C / && exec sh /lab/setup.sh'
`
	r.Files["etc/systemd/system/lab-shell.service"] = `[Unit]
After=lab-setup.service
[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=/root
ExecStart=/usr/bin/perl /usr/local/lib/lab-shell.pl
`
	r.Files["usr/local/lib/lab-shell.pl"] = shellServer
	return r
}

// shellServer runs a shell for each connection. A socket unit would start a service for
// each command, which takes an emulated processor longer than the command.
const shellServer = `use IO::Socket::INET;
use POSIX ":sys_wait_h";
$SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0 };
my $port = IO::Socket::INET->new(LocalPort => ` + shellPort + `, Listen => 64, ReuseAddr => 1) or die $!;
for (;;) {
	my $peer = $port->accept or next;
	if (!fork) {
		open STDIN, "<&", $peer;
		open STDOUT, ">&", $peer;
		close $_ for $port, $peer;
		exec "/bin/sh";
	}
	close $peer;
}
`

// ensureGuestDisk returns a read-only disk with the image, and creates it beside the image
// if it does not exist.
func ensureGuestDisk(image string, run *run) (string, error) {
	disk := image + "-6G.ext4"
	lock, err := flock(image+".lock", 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	partial := filepath.Join(run.dir, "disk.partial")
	err = run.create(func() error {
		_, err := output(run.dir, "mkfs.ext4", "-q", "-d", image, partial, "6G")
		return err
	})
	if err != nil {
		return "", err
	}
	return disk, os.Rename(partial, disk)
}

// kernelOf returns the paths of the image's kernel and initial file system.
func kernelOf(image string) (kernel, initrd string, err error) {
	found, err := filepath.Glob(filepath.Join(image, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", "", fmt.Errorf("find the guest's kernel in %s: %v, %w", image, found, err)
	}
	return found[0], strings.Replace(found[0], "vmlinuz-", "initrd.img-", 1), nil
}

// writeSeed writes the disk with the guest's name, address and known hosts.
func (g *Guest) writeSeed() error {
	var names strings.Builder
	names.WriteString("127.0.0.1 localhost\n" + g.Addr + " " + g.Name + ".lab " + g.Name + "\n")
	for _, h := range g.lab.all() {
		fmt.Fprintf(&names, "%s %s.lab %s\n", h.Addr, h.Name, h.Name)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string]string{
		"etc/hosts":    names.String(),
		"etc/hostname": g.Name + "\n",
		"lab/setup.sh": "hostname " + g.Name + "\nip link set lo up\nfor n in /sys/class/net/e*; do ip addr add " + g.Addr + prefix +
			" dev ${n##*/}; ip link set ${n##*/} up; done\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := w.Write([]byte(content)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	b.Write(make([]byte, 64<<10-b.Len()%(64<<10))) // whole sectors
	return os.WriteFile(filepath.Join(g.dir, "seed.tar"), b.Bytes(), 0o644)
}

// push sends a file through the guest's shell.
func (g *Guest) push(local, path string) error {
	info, err := os.Stat(local)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(local)
	if err != nil {
		return err
	}
	return g.put(content, path, info.Mode())
}

func (g *Guest) put(content []byte, path string, mode fs.FileMode) error {
	script := fmt.Sprintf("base64 -d >'%s' <<'lab-end' && chmod %o '%s'\n%s\nlab-end", path, mode.Perm(), path, base64Lines(content))
	r := g.Try(script)
	if r.Code != 0 {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// base64Lines encodes content in base64, in lines of 76 characters.
func base64Lines(content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text
}

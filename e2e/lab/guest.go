package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Guests are emulated, because KVM may exist and not work. A boot takes half a minute, more on
// a busy machine.
const (
	guestBootLimit = 6 * time.Minute
	shellPort      = "1"
	exitMark       = "\nlab-exit "
)

// A Guest is a virtual machine on the lab's switch, with its own kernel and clock, and a
// page cache that a power cut loses. It costs minutes and half a gigabyte of memory: use
// it only where a Host is not enough.
type Guest struct {
	// Name is the guest's name; Addr its address on the lab's switch.
	Name, Addr string

	lab   *Lab
	dir   string
	clock time.Duration // offset of its clock at the next PowerOn
	qemu  []string      // command line
	power *exec.Cmd     // the running qemu
	ended chan struct{} // closed when qemu has ended
}

// BootGuest adds a virtual machine whose clock is ahead by clock (negative: behind), and
// returns once it takes commands. It knows the names of the hosts booted before; they do
// not know its name.
func (l *Lab) BootGuest(name string, clock time.Duration) *Guest {
	l.tb.Helper()
	g := &Guest{Name: name, lab: l, dir: filepath.Join(l.run.dir, "guests", name), clock: clock}
	l.mu.Lock()
	l.guests++
	number := l.guests
	l.mu.Unlock()
	g.Addr = fmt.Sprintf("10.49.200.%d", number)
	l.tb.Cleanup(func() {
		if l.tb.Failed() {
			l.tb.Log(g.consoleTail())
		}
	})
	if err := g.build(number); err != nil {
		l.tb.Fatalf("lab: build guest %s: %v", name, err)
	}
	g.PowerOn()
	return g
}

// PowerOn boots the guest from its disk, and returns once it takes commands.
func (g *Guest) PowerOn() {
	g.lab.tb.Helper()
	began := time.Now()
	if err := g.boot(); err != nil {
		g.lab.tb.Fatalf("lab: boot guest %s: %v\n%s", g.Name, err, g.consoleTail())
	}
	g.lab.tb.Logf("lab %s: guest %s (%s) is up after %v", g.lab.run.id, g.Name, g.Addr, time.Since(began).Round(time.Second))
}

// CutPower kills the guest. Its page cache and its disk's write cache are lost.
func (g *Guest) CutPower() {
	g.lab.tb.Helper()
	if err := g.power.Process.Kill(); err != nil {
		g.lab.tb.Fatalf("lab: cut the power of guest %s: %v", g.Name, err)
	}
	<-g.ended
}

// build creates the guest's disks and network.
func (g *Guest) build(number int) error {
	l := g.lab
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	image, err := guestDebian().ensure(cache, l.run, l.tb.Logf)
	if err != nil {
		return err
	}
	disk, err := ensureGuestDisk(image, l.run)
	if err != nil {
		return err
	}
	kernel, initrd, err := kernelOf(image)
	if err != nil {
		return err
	}
	tap := "tap" + strconv.Itoa(number)
	g.qemu = []string{
		"--net=" + netnsPath(l.network.name("")), "--",
		// A real machine has its own processors.
		"nice", "-n", "-10", "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "file:" + g.console(),
		"-kernel", kernel, "-initrd", initrd,
		"-append", "root=/dev/vda rw console=ttyS0 quiet systemd.wants=lab-setup.service systemd.wants=lab-shell.service",
		"-drive", "file=" + filepath.Join(g.dir, "disk.qcow2") + ",if=virtio,format=qcow2,cache=none",
		"-drive", "file=" + filepath.Join(g.dir, "seed.tar") + ",if=virtio,format=raw,readonly=on",
		"-netdev", "tap,id=net,ifname=" + tap + ",script=no,downscript=no",
		"-device", fmt.Sprintf("virtio-net-pci,netdev=net,mac=52:54:00:49:00:%02x", number),
	}
	return l.run.create(func() error {
		if err := os.MkdirAll(g.dir, 0o755); err != nil {
			return fmt.Errorf("make the guest's folder: %w", err)
		}
		if err := g.writeSeed(); err != nil {
			return err
		}
		if _, err := output(g.dir, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, "disk.qcow2"); err != nil {
			return err
		}
		sw := l.network.name("")
		return ip("-n "+sw+" tuntap add dev "+tap+" mode tap", "-n "+sw+" link set "+tap+" master switch up")
	})
}

func (g *Guest) boot() error {
	l := g.lab
	qemu := exec.Command("nsenter", append(g.qemu, "-rtc", "base="+time.Now().Add(g.clock).UTC().Format("2006-01-02T15:04:05"))...)
	var stderr bytes.Buffer
	qemu.Stderr = &stderr
	if err := l.run.start("_guest-"+g.Name, qemu); err != nil {
		return err
	}
	ended := make(chan struct{})
	g.power, g.ended = qemu, ended
	go func() { _ = qemu.Wait(); close(ended) }() // ProcessState has the result
	ctx, cancel := context.WithTimeout(l.tb.Context(), guestBootLimit)
	defer cancel()
	return poll(ctx, time.Second, func() (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("qemu has ended: %v\n%s", qemu.ProcessState, bytes.TrimSpace(stderr.Bytes()))
		default:
		}
		r, err := g.command(ctx, "true")
		return err == nil && r.Code == 0, nil
	})
}

// Run runs a shell command as root in the guest and returns its standard output and error
// without the last newline. The test ends when the command fails.
func (g *Guest) Run(command string) string {
	g.lab.tb.Helper()
	r := g.Try(command)
	if r.Code != 0 {
		g.lab.tb.Fatalf("lab: run on guest %s: %s\n%s", g.Name, command, r)
	}
	return strings.TrimSuffix(r.Out, "\n")
}

// Try is Run for a command that may fail.
func (g *Guest) Try(command string) Result {
	g.lab.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	r, err := g.command(ctx, command)
	if err != nil {
		g.lab.tb.Fatalf("lab: run on guest %s: %s\n%v\n%s", g.Name, command, err, r)
	}
	return r
}

// Eventually is Host.Eventually for a guest.
func (g *Guest) Eventually(limit time.Duration, what, command string) string {
	g.lab.tb.Helper()
	return eventually(g.lab.tb, g.Name, limit, what, command, func(ctx context.Context) (Result, error) {
		return g.command(ctx, command)
	})
}

// Push copies a file of this machine to path in the guest, with its permissions.
func (g *Guest) Push(local, path string) {
	g.lab.tb.Helper()
	if err := g.push(local, path); err != nil {
		g.lab.tb.Fatalf("lab: push to guest %s: %v", g.Name, err)
	}
}

// Write writes a file of root in the guest.
func (g *Guest) Write(path, content string, mode fs.FileMode) {
	g.lab.tb.Helper()
	if err := g.put([]byte(content), path, mode); err != nil {
		g.lab.tb.Fatalf("lab: write %s on guest %s: %v", path, g.Name, err)
	}
}

// Read returns the content of a file in the guest.
func (g *Guest) Read(path string) string {
	g.lab.tb.Helper()
	return g.Run("cat -- '" + path + "'")
}

// command sends a script to the guest's shell and reads its output to the end.
func (g *Guest) command(ctx context.Context, script string) (Result, error) {
	const peer = `exec 3<>"/dev/tcp/$1/$2" && cat >&3 && exec cat <&3`
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+netnsPath(g.lab.network.name("")), "--", "bash", "-c", peer, "bash", g.Addr, shellPort)
	cmd.Stdin = strings.NewReader("(\n" + script + "\n) </dev/null 2>&1; printf '" + strings.ReplaceAll(exitMark, "\n", `\n`) +
		"%d\\n' $?; exit\n")
	out, err := cmd.Output()
	text := string(out)
	at := strings.LastIndex(text, exitMark)
	if at < 0 {
		return Result{Out: text}, errors.Join(errors.New("the guest's shell gave no answer"), err)
	}
	code, err := strconv.Atoi(strings.TrimSpace(text[at+len(exitMark):]))
	return Result{Out: text[:at], Code: code}, err
}

func (g *Guest) console() string { return filepath.Join(g.dir, "console") }

func (g *Guest) consoleTail() string {
	text, err := os.ReadFile(g.console())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "console of guest " + g.Name + ":\n" + strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// SetClock sets how far the guest's clock is ahead at the next PowerOn.
func (g *Guest) SetClock(off time.Duration) { g.clock = off }

// Package lab boots real systemd hosts on one machine, so that a scenario can install,
// disconnect, crash and upgrade a fleet in seconds:
//
//	l := lab.New(t)
//	rx := l.Boot("collector")
//	rx.Push(lab.Binary(t), "/root/cis490")
//	rx.Run("/root/cis490 install receiver")
//	rx.Eventually(30*time.Second, "receiver is ready", "curl -fsk https://collector.lab:8443/readyz")
//
// A host is a systemd-nspawn container on an overlay of one cached Debian image, with its
// own cgroup and network namespace. The lab's switch, a bridge, has a namespace too: the
// machine's network does not change, every lab uses the same addresses, and concurrent
// labs cannot reach each other. All hosts share the machine's kernel and clock. The
// scenarios are the tests of package e2e; incident_test.go has what those of incidents share.
//
// A lab removes everything when its test ends, also after Fatal, a panic or an interrupt.
// After a kill, the next New removes it. Only a raised inotify limit stays. A failed test
// first saves the logs of each host in $CIS490_LAB_LOGS or e2e/logs.
//
// The lab needs root. Its methods must be called from the goroutine of its test; they end
// the test when they fail.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// A Lab is a set of hosts on one switch. They reach each other as "lab-01" and
// "lab-01.lab", and reach nothing else.
type Lab struct {
	tb      testing.TB
	run     *run
	image   string
	network network
	cleanup func()

	mu     sync.Mutex
	hosts  []*Host          // in the order of booting; the index gives the address
	names  map[string]*Host // more names, see Lead
	guests int              // number booted
}

// New returns an empty lab that is torn down when the test ends. It first removes the
// labs of dead processes, and builds the hosts' image if this machine does not have it
// (half a minute). Labs with more packages have an image of their own.
func New(tb testing.TB, packages ...string) *Lab {
	tb.Helper()
	l, err := open(tb, debian(packages...))
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	return l
}

// NewOf is New with another release of Debian, such as "trixie". If no mirror has it, the
// test is skipped.
func NewOf(tb testing.TB, suite string) *Lab {
	tb.Helper()
	image := debian()
	image.Suite = suite
	if suite == "bullseye" { // does not have minisign
		image.Packages = slices.DeleteFunc(image.Packages, func(name string) bool { return name == "minisign" })
	}
	l, err := open(tb, image)
	if errors.Is(err, errMirror) {
		tb.Skipf("lab: cannot build an image of %s: %v", suite, err)
	}
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	return l
}

func open(tb testing.TB, image recipe) (*Lab, error) {
	if err := preflight(); err != nil {
		return nil, err
	}
	if err := raiseLimits(); err != nil {
		tb.Logf("lab: %v", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	run, err := register(cache, tb.Logf)
	if err != nil {
		return nil, err
	}
	l := &Lab{tb: tb, run: run, network: network{run.id}}
	l.cleanup = sync.OnceFunc(l.tearDown)
	l.tearDownOnSignal()
	tb.Cleanup(l.cleanup)
	if l.image, err = image.ensure(cache, run, tb.Logf); err != nil {
		return nil, err
	}
	if err := run.create(l.network.setUp); err != nil {
		return nil, err
	}
	return l, nil
}

// Boot adds a host to the lab, and returns once systemd has finished starting. If a unit
// failed, the test's log has its name.
func (l *Lab) Boot(name string, options ...Option) *Host {
	l.tb.Helper()
	hosts, err := l.add([]string{name}, options)
	if err == nil {
		err = hosts[0].create()
	}
	if err != nil {
		l.tb.Fatalf("lab: boot %s: %v", name, err)
	}
	return hosts[0]
}

// BootAll is Boot for several hosts, in parallel.
func (l *Lab) BootAll(names ...string) []*Host {
	l.tb.Helper()
	hosts, err := l.add(names, nil)
	if err != nil {
		l.tb.Fatalf("lab: boot %v: %v", names, err)
	}
	failures := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			if err := h.create(); err != nil {
				failures[i] = fmt.Errorf("boot %s: %w", h.Name, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failures...); err != nil {
		l.tb.Fatalf("lab: %v", err)
	}
	return hosts
}

// Host returns the host with this name. An unknown name ends the test.
func (l *Lab) Host(name string) *Host {
	l.tb.Helper()
	for _, h := range l.all() {
		if h.Name == name {
			return h
		}
	}
	l.tb.Fatalf("lab: there is no host %q", name)
	return nil
}

// Command returns a command that runs on this machine's files in the lab's network, at the
// switch's address (switch.lab), such as a browser or a load generator. It reaches hosts
// by Addr, not by name. It is killed when the test ends, and belongs to a cgroup of the
// lab, as a host does.
func (l *Lab) Command(name string, args ...string) *exec.Cmd {
	l.tb.Helper()
	dir, err := l.run.cgroup("switch")
	if err == nil {
		err = l.run.create(func() error { return os.MkdirAll(dir, 0o755) })
	}
	if err != nil {
		l.tb.Fatalf("lab: run %s at the switch: %v", name, err)
	}
	const enter = `echo $$ >"$0/cgroup.procs" && exec nsenter "$@"`
	return exec.CommandContext(l.tb.Context(), "sh", append([]string{
		"-c", enter, dir, "--net=" + netnsPath(l.network.name("")), "--",
		name,
	}, args...)...)
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// add adds hosts and writes the new list of names to every host of the lab.
func (l *Lab) add(names []string, options []Option) ([]*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := make(map[string]bool)
	for _, h := range l.hosts {
		taken[h.Name] = true
	}
	var added []*Host
	for i, name := range names {
		if !hostName.MatchString(name) {
			return nil, fmt.Errorf("%q is not a valid host name", name)
		}
		if taken[name] {
			return nil, fmt.Errorf("%q is already in this lab", name)
		}
		taken[name] = true
		added = append(added, newHost(l, name, len(l.hosts)+i, options))
	}
	running := l.hosts
	l.hosts = append(l.hosts, added...)
	for _, h := range running {
		if err := h.writeNames(l.hosts); err != nil {
			return nil, err
		}
	}
	return added, nil
}

func (l *Lab) all() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Host(nil), l.hosts...)
}

func (l *Lab) tearDown() {
	if l.tb.Failed() || panicking() {
		l.saveLogs()
	}
	l.tb.Logf("lab %s: %s of CPU time", l.run.id, l.run.used())
	if err := l.run.remove(); err != nil {
		l.tb.Errorf("lab: remove lab %s (the next lab tries again): %v", l.run.id, err)
	}
}

// tearDownOnSignal removes the lab on an interrupt, and then sends the signal again. The
// last lab of the process has removed its handler by then, so the signal ends the process.
func (l *Lab) tearDownOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	l.tb.Cleanup(func() { signal.Stop(signals); close(ended) })
	go func() {
		select {
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "lab: %v: removing lab %s\n", s, l.run.id)
			l.cleanup()
			signal.Stop(signals)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		case <-ended:
		}
	}()
}

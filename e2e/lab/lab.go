// Package lab boots real systemd hosts on one machine, so that a scenario can
// install, run, cut off, crash and upgrade a whole fleet in seconds:
//
//	l := lab.New(t)
//	rx := l.Boot("collector")
//	rx.Push(lab.Binary(t), "/root/cis490")
//	rx.Run("/root/cis490 install receiver")
//	rx.Eventually(30*time.Second, "receiver is ready", "curl -fsk https://collector.lab:8443/readyz")
//
// A host is a systemd-nspawn container on an overlay of one cached Debian image,
// with a cgroup and a network namespace of its own. The lab's switch (a bridge)
// lives in a namespace too: the machine's network is never touched, every lab may
// use the same addresses, and labs side by side cannot see each other. All hosts
// share the machine's kernel and clock.
//
// What a lab made is gone when its test ends, also after Fatal, a panic in the
// test or an interrupt. What a killed process left behind is swept by the next
// New. Only a raised inotify limit stays. A failed test first saves what each host
// has to tell, in $CIS490_LAB_LOGS or e2e/logs.
//
// The lab needs root, and is used from the goroutine of the test it was made for:
// its methods end that test when they cannot do what they say.
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

// A Lab is a set of hosts on one switch. They reach each other by name, as
// "lab-01" and as "lab-01.lab", and reach nothing else.
type Lab struct {
	tb      testing.TB
	run     *run
	image   string
	network network
	cleanup func()

	mu     sync.Mutex
	hosts  []*Host // in the order of booting; the place gives the address
	guests int     // booted so far
}

// New returns an empty lab that is torn down when the test ends. It first sweeps
// what dead test processes left behind, and builds the image all hosts share when
// this machine has none yet (about half a minute, once). With more packages its
// hosts have another image, of their own.
func New(tb testing.TB, packages ...string) *Lab {
	tb.Helper()
	l, err := open(tb, debian(packages...))
	if err != nil {
		tb.Fatalf("lab: %v", err)
	}
	return l
}

// NewOf is New with hosts of another release of Debian, such as "trixie". Where no mirror
// has that release, the test is skipped with the reason.
func NewOf(tb testing.TB, suite string) *Lab {
	tb.Helper()
	image := debian()
	image.Suite = suite
	if suite == "bullseye" { // which does not have it
		image.Packages = slices.DeleteFunc(image.Packages, func(name string) bool { return name == "minisign" })
	}
	l, err := open(tb, image)
	if errors.Is(err, errMirror) {
		tb.Skipf("lab: no image of %s can be had: %v", suite, err)
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
	if err := run.make(l.network.setUp); err != nil {
		return nil, err
	}
	return l, nil
}

// Boot adds a host to the lab and returns once systemd inside has finished
// starting. A host that comes up degraded is reported in the test's log with the
// units that failed.
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

// BootAll adds several hosts at once, as Boot does, in parallel.
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

// Host returns the host with this name; a name that was never booted ends the test.
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

// Command prepares a program of this machine to run beside the lab's hosts: with
// the machine's files but the lab's network, at the switch's own address (the hosts
// know it as switch.lab). That is for a browser, a load generator or a peer. It
// finds hosts by Addr, not by name, and ends with the test at the latest; like a
// host, it is in a cgroup of the lab, and is swept with it when the test is killed.
func (l *Lab) Command(name string, args ...string) *exec.Cmd {
	l.tb.Helper()
	dir, err := l.run.cgroup("switch")
	if err == nil {
		err = l.run.make(func() error { return os.MkdirAll(dir, 0o755) })
	}
	if err != nil {
		l.tb.Fatalf("lab: run %s at the switch: %v", name, err)
	}
	const enter = `echo $$ >"$0/cgroup.procs" && exec nsenter "$@"`
	return exec.CommandContext(l.tb.Context(), "sh", append([]string{"-c", enter, dir, "--net=" + netnsPath(l.network.name("")), "--", name}, args...)...)
}

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// add names the hosts and gives every host of the lab the new list of names.
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
			return nil, fmt.Errorf("%q is no host name", name)
		}
		if taken[name] {
			return nil, fmt.Errorf("%q is in this lab already", name)
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
	if err := l.run.remove(); err != nil {
		l.tb.Errorf("lab: remove lab %s (the next lab tries again): %v", l.run.id, err)
	}
}

// tearDownOnSignal makes an interrupt remove the lab before it ends the process.
// With several labs, each waits for the signal, and the last one to be done finds
// no other waiting: then the signal has its default effect.
func (l *Lab) tearDownOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	l.tb.Cleanup(func() { signal.Stop(signals); close(over) })
	go func() {
		select {
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "lab: %v: removing lab %s\n", s, l.run.id)
			l.cleanup()
			signal.Stop(signals)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		case <-over:
		}
	}()
}

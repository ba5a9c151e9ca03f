package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A network is the lab's switch, a bridge in its own namespace, with a cable (a veth pair)
// to each host's namespace. Nothing of it is in the machine's namespace, so every lab can
// use the same names and addresses.
type network struct{ id string }

const (
	switchAddr = "10.49.0.1"
	prefix     = "/16"
)

// name returns the namespace of a host, or of the switch for "".
func (n network) name(host string) string {
	if host == "" {
		return runName(n.id)
	}
	return runName(n.id) + "." + host
}

func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// addr returns the address of host number i, from 10.49.1.0 on.
func (n network) addr(i int) string { return fmt.Sprintf("10.49.%d.%d", 1+i/250, 1+i%250) }

func (n network) setUp() error {
	sw := n.name("")
	return ip(
		"netns add "+sw,
		"-n "+sw+" link set lo up",
		"-n "+sw+" link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"-n "+sw+" addr add "+switchAddr+prefix+" dev switch",
		"-n "+sw+" link set switch up",
	)
}

// attach creates the host's namespace and connects it to the switch.
func (n network) attach(h *Host) error {
	sw, ns, port := n.name(""), n.name(h.Name), h.port()
	return ip(
		"netns add "+ns,
		"-n "+ns+" link set lo up",
		"-n "+sw+" link add "+port+" type veth peer name eth0 netns "+ns,
		"-n "+sw+" link set "+port+" master switch up",
		"-n "+ns+" addr add "+h.Addr+prefix+" dev eth0",
		"-n "+ns+" link set eth0 up",
	)
}

// removeNetwork removes all namespaces of a lab with their devices.
func removeNetwork(id string) error {
	paths, err := filepath.Glob(netnsPath(runName(id) + ".*"))
	if err != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var failures []error
	for _, path := range append(paths, netnsPath(runName(id))) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		failures = append(failures, ip("netns del "+filepath.Base(path)))
	}
	return errors.Join(failures...)
}

// CutOff disconnects the host's network cable: it loses its carrier, and packets to it are
// dropped. It stays disconnected over PowerOff, Crash and Start.
func (h *Host) CutOff() {
	h.lab.tb.Helper()
	h.plug("down")
}

// Reconnect connects the host's network cable again.
func (h *Host) Reconnect() {
	h.lab.tb.Helper()
	h.plug("up")
}

func (h *Host) plug(state string) {
	h.lab.tb.Helper()
	if err := ip("-n " + h.lab.network.name("") + " link set " + h.port() + " " + state); err != nil {
		h.lab.tb.Fatalf("lab: set the link of %s %s: %v", h.Name, state, err)
	}
}

// port returns the name of the switch's end of the host's cable.
func (h *Host) port() string { return fmt.Sprintf("port%d", h.number) }

// Lead makes a name lead to a host, for all hosts of the lab, as a change in the DNS does.
func (l *Lab) Lead(name string, to *Host) {
	l.tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]*Host{}
	}
	l.names[name] = to
	for _, h := range l.hosts {
		if err := h.writeNames(l.hosts); err != nil {
			l.tb.Fatalf("lab: lead %s to %s: %v", name, to.Name, err)
		}
	}
}

// writeNames writes the names of all hosts to the host's /etc/hosts.
func (h *Host) writeNames(hosts []*Host) error {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n" + switchAddr + " switch.lab\n")
	for _, other := range hosts {
		fmt.Fprintf(&text, "%s %s.lab %s\n", other.Addr, other.Name, other.Name)
	}
	for name, to := range h.lab.names {
		fmt.Fprintf(&text, "%s %s\n", to.Addr, name)
	}
	if err := os.WriteFile(filepath.Join(h.root(), "etc/hosts"), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write names of %s: %w", h.Name, err)
	}
	return nil
}

// ip runs ip(8) commands in order, up to the first failure.
func ip(commands ...string) error {
	for _, c := range commands {
		out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

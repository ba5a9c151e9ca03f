//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
	"cis490/receiver/objects/s3test"
)

// The machines of the example in docs/growing.md.
type clusterFleet struct {
	*docsMachines
	rxs            []*lab.Host // the first one has the authority
	dbs            []*lab.Host // the primary and its standby
	front, objects *lab.Host
}

// newCluster sets three receivers up with the commands of docs/growing.md: a fleet with one
// receiver is moved to PostgreSQL and an object store while its hosts record, then gets a balancer
// and two more receivers. Programs of the receivers follow the clock of their machine.
func newCluster(t *testing.T, hosts int) *clusterFleet {
	t.Helper()
	versitygw, err := s3test.Binary()
	if err == nil {
		_, err = os.Stat(versitygw)
	}
	if err != nil {
		t.Skipf("no versitygw: make versitygw: %v", err)
	}
	c := &clusterFleet{}
	l := lab.New(t)
	var all []*lab.Host
	for _, name := range []string{"rx-1", "rx-2", "rx-3", "store", "front", "db-1", "db-2"} {
		m := l.Boot(name, withServers())
		if !strings.HasPrefix(name, "db-") { // one image for all is built sooner
			m.Run("systemctl disable --now postgresql")
		}
		all = append(all, m)
	}
	c.rxs, c.objects, c.front, c.dbs = all[:3], all[3], all[4], all[5:]
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("lab-%02d", i+1))
	}
	c.docsMachines = docsMachinesOf(t, l, append(all, l.BootAll(names...)...))
	c.machines["collector"] = c.rx // where a page's commands run that name no machine
	c.shareKey(all)
	c.objects.Push(versitygw, "/usr/local/bin/versitygw")
	l.Lead("collector.lab", c.rx)
	c.rx.Push(c.binary("0.0.0-lab"), "/root/cis490")
	c.rx.Run("cd /root && ./cis490 install receiver --public-url https://collector.lab:8443 && " +
		"cis490 release publish /home/ada/dist/0.0.0-lab")
	delayAutoupdate(c.rx)
	c.watchFleetAt(2 * time.Minute)
	for _, h := range c.hosts {
		h.Push(lab.Binary(t), "/root/cis490")
		c.join(h)
		setConfig(h, "/etc/cis490/lab-host.toml", map[string]string{"rest": "1h", "ping_every": "5s"})
		h.Run("systemctl restart cis490-shipper cis490-orchestrator")
		delayAutoupdate(h)
		keepAdding(h, 2*time.Second)
	}
	c.follow(stepsOf(t, growing, "## Rows in PostgreSQL"))
	c.shared = true
	c.rx.State()
	c.store = &objectStore{Host: c.objects}
	c.front.Write("/etc/haproxy/haproxy.cfg", "global\n    stats socket /run/haproxy.sock mode 600\n"+
		blockIn(t, growing, "## Several receivers", "haproxy"), 0o644)
	c.follow(stepsOf(t, growing, "## Several receivers"))
	l.Lead("collector.lab", c.front)
	for _, rx := range c.rxs[1:] {
		setTimer(rx, "cis490-fleet-health", checkEvery)
		delayAutoupdate(rx)
	}
	c.waitBalanced(3)
	return c
}

// binary builds a version that follows its machine's clock.
func (c *clusterFleet) binary(version string) string {
	c.t.Helper()
	return lab.BinaryWith(c.t, version, commitOf(version), lab.OwnClock(c.t))
}

// shareKey lets the user of the pages use ssh between machines.
func (c *clusterFleet) shareKey(machines []*lab.Host) {
	c.t.Helper()
	c.rx.Run("sudo -u ada ssh-keygen -q -t ed25519 -N '' -f /home/ada/.ssh/id_ed25519")
	private, public := c.rx.Read("/home/ada/.ssh/id_ed25519"), c.rx.Read("/home/ada/.ssh/id_ed25519.pub")
	for _, m := range machines {
		for name, text := range map[string]string{
			"id_ed25519": private, "authorized_keys": public, "config": "StrictHostKeyChecking accept-new\n",
		} {
			m.Write("/home/ada/.ssh/"+name, text, 0o600)
		}
		m.Run("chown -R ada: /home/ada")
	}
}

// waitBalanced waits until HAProxy passes hosts to n receivers.
func (c *clusterFleet) waitBalanced(n int) {
	c.t.Helper()
	c.front.Eventually(2*time.Minute, fmt.Sprintf("%d receivers are used", n), fmt.Sprintf(
		`perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new("/run/haproxy.sock") or die; print $s "show stat\n"; print <$s>' | `+
			`tee /tmp/stat | grep '^ready,rx-' | cut -d, -f1,2,18 | tee /dev/stderr | grep -c ',UP' | grep -qx %d`, n))
}

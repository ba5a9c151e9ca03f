//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestCluster_Authority: a second machine stands by for the authority, set up as docs/growing.md
// says. The first one loses its power; a new host enrolls at the second one, and the first one
// stands by when it is back.
func TestCluster_Authority(t *testing.T) {
	inLane(t)
	const section = "## A standby of the authority"
	c := newCluster(t, 2)
	late := c.Boot("lab-late")
	c.follow(slices.DeleteFunc(stepsOf(t, growing, section), func(s step) bool { return s.inline }))
	const file = "/etc/haproxy/haproxy.cfg"
	before, _, _ := strings.Cut(c.front.Read(file), "listen authority")
	c.front.Write(file, before+blockIn(t, growing, section, "haproxy"), 0o644)
	c.front.Run("systemctl reload haproxy")

	first, second := c.rxs[0], c.rxs[1]
	began := time.Now()
	first.Crash()
	second.Eventually(time.Minute, "rx-2 has the authority", "cis490 status | grep 'authority: rx-2'")
	t.Logf("authority: taken over %s after the power cut", time.Since(began).Round(100*time.Millisecond))
	c.rx = second
	c.rx.State()
	late.Push(lab.Binary(t), "/root/cis490")
	c.join(late)
	c.waitAccepted(late, 1, time.Minute)

	first.Start()
	second.Eventually(2*time.Minute, "rx-1 stands by", "cis490 status | grep 'authority: rx-2; rx-1 stands by'")
	if r := first.Try("cis490 token create lab-04"); r.Code == 0 || !strings.Contains(r.Err, "rx-2") {
		t.Errorf("a token on the machine that stands by: %s", r)
	}
	for _, rx := range []*lab.Host{first, second} {
		rx.Eventually(time.Minute, "doctor has nothing to say", "cis490 doctor --only cluster.authority")
	}
}

package client

import (
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/internal/version"
)

// TestIdleConnection_OutlivesPingEvery: a host that pings seldom keeps its connection all
// the same.
func TestIdleConnection_OutlivesPingEvery(t *testing.T) {
	c := config.DefaultLabHost()
	c.Host, c.Receiver.URL = "lab-07", "https://receiver:8443"
	c.Ship.PingEvery = config.Duration(20 * time.Minute)
	cl, err := New(c, version.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if keep := cl.newTransport(nil, nil).IdleConnTimeout; keep <= 22*time.Minute { // a ping may come a tenth late
		t.Errorf("an idle connection is kept for %s", keep)
	}
}

package checks_test

import (
	"context"
	"strings"
	"testing"

	"cis490/agent/checks"
	"cis490/internal/config"
)

// TestDNS_NamesOfMulticast: if a .local name has no address, the result mentions mDNS.
func TestDNS_NamesOfMulticast(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no lookup
	for name, warned := range map[string]bool{"collector.local": true, "COLLECTOR.Local.": true, "collector.lab": false, "local": false} {
		c := config.DefaultLabHost()
		c.Host, c.Receiver.URL = "lab-01", "https://"+name+":8443"
		for _, k := range checks.Checks(checks.Options{Config: c}) {
			if k.ID != "dns.receiver" {
				continue
			}
			if r := k.Run(ctx); strings.Contains(r.Detail, "mDNS") != warned {
				t.Errorf("%s: %s", name, r.Detail)
			}
		}
	}
}

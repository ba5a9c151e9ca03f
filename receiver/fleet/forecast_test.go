package fleet

import (
	"strings"
	"testing"
	"time"

	"cis490/internal/wire"
	"cis490/receiver/roster"
)

func TestForecast_DescribesWhatWillHappen(t *testing.T) {
	contact := Contact{At: ago(time.Minute), Any: ago(time.Minute)}
	gated := contact
	gated.Gated, gated.Held = "the commit is in blocked_commits\x1b[31m", 3
	left := contact
	left.Leaving = true
	uninstalled := left
	uninstalled.Uninstalled = true
	for name, c := range map[string]struct {
		h    Host
		want []string
	}{
		"healthy": {
			Host{Roster: active(day), Accepted: ago(time.Minute), Contact: contact},
			[]string{"fires after 2026-03-01 00:39:00 UTC", "renewed from 2026-03-11 00:10:00 UTC", "next health report"},
		},
		"gated, nothing offered": {
			Host{Accepted: ago(time.Hour), Contact: gated},
			[]string{"it records nothing new", "no published release", "holds 3 episodes", "next health report"},
		},
		"gated, offered": {
			Host{Accepted: ago(time.Hour), Contact: gated, Version: "1", Offered: "2"},
			[]string{"it records nothing new", "installs version 2", "holds 3 episodes", "next health report"},
		},
		"only refused": {
			Host{Contact: contact, Refused: refused(time.Minute, wire.Gated)}, []string{"holds its earlier episodes", "next health report"},
		},
		"left":        {Host{Accepted: ago(time.Hour), Contact: left}, []string{"before 2026-03-02 00:09:00 UTC", "next health report"}},
		"uninstalled": {Host{Accepted: ago(time.Hour), Contact: uninstalled}, []string{"was uninstalled at"}},
		"expired": {
			Host{Roster: &roster.Host{State: roster.Active, CertExpires: ago(time.Hour)}},
			[]string{"certificate has expired", "next health report"},
		},
		"decommissioned": {Host{Roster: &roster.Host{State: roster.Gone}}, []string{"requests are rejected"}},
		"expected": {
			Host{Roster: &roster.Host{State: roster.Pending, TokenExpires: now.Add(time.Hour)}}, []string{"join token is valid until"},
		},
		"behind": {
			Host{Accepted: ago(time.Minute), Contact: contact, Version: "1", Offered: "2"},
			[]string{"fires after", "installs version 2", "next health report"},
		},
	} {
		got := facts(&c.h).Forecast("lab-01").Next
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: %q, want …%s…", name, got[i], part)
			}
		}
	}
	if o := facts(&Host{}).Forecast("lab-99"); len(o.Next) != 0 || o.Next == nil {
		t.Errorf("a host that nobody knows: %+v", o)
	}
}

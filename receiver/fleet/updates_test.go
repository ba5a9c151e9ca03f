package fleet

import (
	"strings"
	"testing"
	"time"

	"cis490/internal/wire"
)

func TestJudge_Updates(t *testing.T) {
	contact := Contact{At: ago(time.Minute), Any: ago(time.Minute)}
	good := wire.Update{Good: wire.Running{Version: "1", Seq: 1}}
	back := func(age time.Duration) *wire.Update {
		u := good
		u.RolledBack = []wire.RolledBack{{Running: wire.Running{Version: "2", Seq: 2}, At: ago(age), Why: "it\x1b[31m crashed\n$(reboot)"}}
		return &u
	}
	refused, trial := good, good
	refused.Refused = "signature"
	trial.Trial = &wire.Trial{Running: wire.Running{Version: "2"}, Since: ago(time.Hour), Waiting: "an accepted episode"}
	proven := back(time.Hour)
	proven.Good.Seq = 3
	for name, c := range map[string]struct {
		h    Host
		seen time.Duration // that it was behind
		want string
	}{
		"current":             {Host{Version: "2", Offered: "2", Update: &good}, 2 * day, ""},
		"nothing is offered":  {Host{Version: "1", Update: &good}, 2 * day, ""},
		"behind for 23:59":    {Host{Version: "1", Offered: "2", Update: &good}, day - time.Minute, ""},
		"behind for a day":    {Host{Version: "1", Offered: "2", Update: &good}, day, "stale-version/not-updated"},
		"behind, silent":      {Host{Version: "1", Offered: "2", Update: &good, Contact: Contact{At: ago(time.Hour)}}, day, ""},
		"nothing keeps it":    {Host{Version: "1", Offered: "2"}, day, "stale-version/no-updates"},
		"refuses the release": {Host{Version: "1", Offered: "2", Update: &refused}, day, "stale-version/update-refused"},
		"a trial that hangs":  {Host{Version: "1", Offered: "2", Update: &trial}, day, "stale-version/trial"},
		"went back, a day": {
			Host{Version: "1", Offered: "2", Update: back(day - time.Minute)}, day, "stale-version/rolled-back update-rolled-back/rolled-back",
		},
		"went back":              {Host{Version: "1", Update: back(time.Hour)}, 0, "update-rolled-back/rolled-back"},
		"went back, long ago":    {Host{Version: "1", Update: back(day + time.Minute)}, 0, ""},
		"went back, then better": {Host{Version: "3", Update: proven}, 0, ""},
	} {
		if c.h.Contact.At.IsZero() {
			c.h.Contact = contact
		}
		c.h.Accepted = ago(time.Minute)
		f := facts(&c.h)
		f.Seen = map[Key]time.Time{{Host: "lab-01", Symptom: StaleVersion}: ago(c.seen)}
		found, _ := Judge(f)
		var got []string
		for _, x := range found {
			got = append(got, x.Symptom+"/"+x.Reason.Code)
			if x.Fix == "" || strings.Contains(x.Fix, "HOST") || strings.ContainsAny(x.Detail+x.Reason.Text, "\x1b\n") ||
				strings.Contains(x.Fix, "reboot") {
				t.Errorf("%s: %+v", name, x)
			}
			if strings.Contains(x.Detail, " ago") {
				t.Errorf("%s: the detail is stored, so its age is wrong when it is read: %s", name, x.Detail)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

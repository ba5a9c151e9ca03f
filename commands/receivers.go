package commands

import (
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/cluster"
)

// receiverRow is one of several receivers, as --json prints it.
type receiverRow struct {
	Name    string          `json:"name"`
	State   string          `json:"state"` // ready, away, stopping, or not ready: why
	Version string          `json:"version"`
	Until   time.Time       `json:"certificate_until,omitzero"` // of its server certificate
	Seen    float64         `json:"seen_seconds_ago"`
	Does    []receiver.Work `json:"does,omitempty"` // the work that only one receiver may do
}

// receiversOf describes the receivers on one database.
func receiversOf(all []cluster.Member) (rows []receiverRow) {
	for _, m := range all {
		rows = append(rows, receiverRow{
			check.Sanitize(m.Name, 100), check.Sanitize(m.State(), 200), check.Sanitize(m.Version, 40), m.CertificateUntil,
			m.Silent.Seconds(), m.Does,
		})
	}
	return rows
}

// receiversTable prints several receivers. One alone is what the line above says of it.
func (a *app) receiversTable(rows []receiverRow) error {
	if len(rows) == 0 {
		return nil
	}
	return a.table("RECEIVER\tSTATE\tSEEN\tDOES\t~CERTIFICATE UNTIL\t~VERSION", func(row func(...any)) {
		for _, r := range rows {
			seen := machine.HumanDuration(time.Duration(r.Seen * float64(time.Second)))
			row(r.Name, r.State, seen+" ago", cluster.Work(r.Does), plain.Time(r.Until), r.Version)
		}
	})
}

// authorities is which machine has the authority, if several may have it.
type authorities struct {
	Active  string `json:"active,omitempty"`
	Standby string `json:"standby,omitempty"`
}

// authoritiesOf reads which machine has the authority; nil if only one may have it, as far as can
// be known.
func authoritiesOf(conf config.Receiver, back receiver.Backend) (*authorities, error) {
	if back.Peers == nil {
		return nil, nil
	}
	leases, err := back.Peers.Leases()
	name := func(w receiver.Work) string { return check.Sanitize(leases[w], 100) }
	s := &authorities{name(receiver.Publishing), name(receiver.Standby)}
	if !conf.Authority.Shared() && s.Standby == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// String says it in one line.
func (s authorities) String() string {
	switch {
	case s.Active == "" && s.Standby == "":
		return "no machine has the authority, and none stands by"
	case s.Active == "":
		return "no machine has the authority; " + s.Standby + " takes over"
	case s.Standby == "":
		return s.Active + "; no machine stands by"
	}
	return s.Active + "; " + s.Standby + " stands by"
}

// sayReceivers prints the state of several receivers in one line.
func (a *app) sayReceivers(rows []receiverRow) {
	var all []string
	for _, r := range rows {
		all = append(all, r.Name+": "+r.State)
	}
	if len(all) > 0 {
		a.printf("receivers: %s\n", strings.Join(all, ", "))
	}
}

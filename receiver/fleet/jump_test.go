package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/receiver/contacts"
)

// TestJudge_TheClockJumpedPastCertificates: no host is reported for the receiver's clock. The
// clock is, if it jumped past the certificates of at least half of the hosts.
func TestJudge_TheClockJumpedPastCertificates(t *testing.T) {
	for _, c := range []struct {
		expired int
		by      time.Duration
		want    string
	}{
		{3, 40 * day, "@receiver clock"},
		{2, 40 * day, "@receiver clock"},
		{1, 40 * day, ""},
		{3, 2 * day, "lab-00 cert-expiring, lab-01 cert-expiring, lab-02 cert-expiring"},
		{3, -40 * day, "lab-00 cert-expiring, lab-01 cert-expiring, lab-02 cert-expiring"},
	} {
		f := facts(nil)
		f.Hosts = map[ident.Host]*Host{}
		for i := range 3 {
			r := active(day)
			if i < c.expired {
				r.CertExpires = ago(10 * day)
			}
			f.Hosts[ident.Host(fmt.Sprintf("lab-%02d", i))] = &Host{
				Roster:   r,
				Accepted: ago(20 * time.Minute),
				Contact:  Contact{At: ago(20 * time.Minute)},
			}
		}
		f.contacts.Receiver.Jumps = []contacts.Jump{{At: ago(time.Minute), By: c.by}}
		var got []string
		found, _ := Judge(f)
		for _, x := range found {
			got = append(got, x.Host+" "+x.Symptom)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%d certificates, a jump by %s: %v, want %s", c.expired, c.by, got, c.want)
		}
	}
}

// TestJudge_TheClockJumpedCloseToTheEndOfCertificates: no host is late to renew by a clock
// that jumped.
func TestJudge_TheClockJumpedCloseToTheEndOfCertificates(t *testing.T) {
	for near := 1; near <= 3; near++ {
		f := facts(nil)
		f.Hosts = map[ident.Host]*Host{}
		for i := range 3 {
			r := active(day)
			if i < near {
				r.CertExpires = ago(-time.Hour)
			}
			f.Hosts[ident.Host(fmt.Sprintf("lab-%02d", i))] = &Host{
				Roster: r, Accepted: ago(20 * time.Minute), Contact: Contact{At: ago(20 * time.Minute)},
			}
		}
		f.contacts.Receiver.Jumps = []contacts.Jump{{At: ago(time.Minute), By: 20 * day}}
		if found, _ := Judge(f); len(found) != 0 {
			t.Errorf("%d of 3 certificates are about to expire after a jump: %+v", near, found)
		}
		f.jumped = 0
		for _, h := range f.Hosts { // and their pings show it
			h.Contact.At, h.Contact.Offset = ago(time.Minute), -20*day
		}
		if found, _ := Judge(f); len(found) != 1 || found[0].Symptom != ClockWrong {
			t.Errorf("%d of 3 certificates are about to expire after a jump, by the hosts' clocks: %+v", near, found)
		}
	}
}

// TestJudge_TheClockWasPastCertificates: hosts have the time that they need to be heard once
// the clock is right again, also if it was past the certificate of one host only.
func TestJudge_TheClockWasPastCertificates(t *testing.T) {
	f := facts(nil)
	f.Hosts = map[ident.Host]*Host{}
	for i := range 2 {
		r := active(day)
		r.CertExpires = ago(-20 * day)
		f.Hosts[ident.Host(fmt.Sprintf("lab-%02d", i))] = &Host{
			Roster: r, Accepted: ago(2 * time.Hour), Contact: Contact{At: ago(2 * time.Hour)},
			Refused: Refusal{At: ago(10 * time.Minute), Status: 401},
		}
	}
	f.contacts.Receiver.Jumps = []contacts.Jump{{At: ago(118 * time.Minute), By: 40 * day}, {At: ago(4 * time.Minute), By: -40 * day}}
	if found, _ := Judge(f); len(found) > 0 {
		t.Errorf("4 minutes after the clock was set right: %+v", found)
	}
	f.Hosts["lab-01"].Roster.CertExpires, f.Hosts["lab-01"].Accepted = ago(-60*day), ago(time.Minute)
	if found, _ := Judge(f); len(found) > 0 {
		t.Errorf("4 minutes after the clock was set right for one of two hosts: %+v", found)
	}
	f.Hosts["lab-01"].Roster.CertExpires, f.Hosts["lab-01"].Accepted = ago(-20*day), ago(2*time.Hour)
	f.Away, f.contacts.Receiver.Jumps[0].By, f.contacts.Receiver.Jumps[1].By = nil, 2*day, -2*day
	if found, _ := Judge(f); len(found) == 0 {
		t.Error("a clock that no certificate ran out by hides two silent hosts")
	}
}

// TestJudge_IssuedAfterTheJump: a host whose certificate was issued when the clock was right
// again, and has expired since, is reported.
func TestJudge_IssuedAfterTheJump(t *testing.T) {
	for issued, reported := range map[time.Duration]bool{4 * time.Hour: true, 7 * time.Hour: false} {
		f := facts(nil)
		expired := active(day)
		expired.CertIssued, expired.CertExpires = ago(issued), ago(time.Hour)
		f.Hosts = map[ident.Host]*Host{
			"lab-00": {Roster: expired, Accepted: ago(3 * time.Hour), Contact: Contact{At: ago(3 * time.Hour)}},
		}
		for _, name := range []ident.Host{"lab-01", "lab-02"} {
			f.Hosts[name] = &Host{Roster: active(20 * day), Accepted: ago(time.Minute), Contact: Contact{At: ago(time.Minute)}}
		}
		f.contacts.Receiver.Jumps = []contacts.Jump{{At: ago(8 * time.Hour), By: -8 * time.Hour}, {At: ago(6 * time.Hour), By: 8 * time.Hour}}
		found, _ := Judge(f)
		if got := slices.ContainsFunc(found, func(x Finding) bool { return x.Host == "lab-00" }); got != reported {
			t.Errorf("issued %s ago, 6 h after a jump by 8 h: reported %t: %+v", issued, got, found)
		}
	}
}

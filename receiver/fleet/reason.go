package fleet

import (
	"fmt"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Reason codes that detectors compare.
const (
	reasonExpired  = "certificate-expired"
	reasonRevoked  = "certificate-revoked"
	reasonLeft     = "left"
	reasonNothing  = "nothing"
	reasonReceiver = "receiver"
)

// gateCheck is the check of a host that the receiver's gate accepts its code.
const gateCheck = "gate.commit"

// offsetCheck is the check of a host that its clock agrees with the receiver's.
const offsetCheck = "clock.offset"

// skew is the clock difference up to which clocks count as equal.
const skew = 2 * time.Minute

// silenceReason returns why no episode was accepted since a time. It tries the most
// certain causes first.
func (f *Facts) silenceReason(h *Host, since time.Time) Reason {
	c, k := h.Contact, h.AuthFailure
	heard := later(c.At, c.Any)
	alive := f.Now.Sub(c.At) <= f.Limits.Fresh()
	ids, _ := h.failing(f)
	switch {
	case h.rejected() && k.At.After(since):
		return f.authFailure(h)
	case h.Refused.At.After(since):
		return f.refusal(h.Refused)
	case c.Leaving && !c.Any.After(c.At.Add(time.Minute)):
		return Reason{Code: reasonLeft, Text: "shut down cleanly at " + plain.Time(c.At), Fix: fixLeft}
	//off:15_FastClock,15_SlowClock
	case alive && c.Offset.Abs() > skew && !f.skewed:
		return Reason{Code: "clock", Text: "its clock is off by " + machine.HumanDuration(c.Offset.Abs()), Check: offsetCheck}
	case len(ids) > 0:
		return f.failing(h, ids)
	case alive && c.Gated != "":
		return c.gated()
	case alive && c.Held > 0 && c.Waiting == 0:
		return gated(fmt.Sprintf("%d episodes are held because the gate refuses their commit", c.Held), false)
	case alive && c.Waiting > 0:
		return Reason{
			Code: "not-shipping", Text: fmt.Sprintf("online, but none of its %d waiting episodes arrives", c.Waiting), Check: "outbox.oldest",
		}
	case alive:
		return Reason{Code: "not-recording", Text: "online but not recording", Check: "episodes.recent"}
	case h.Roster != nil && !h.Roster.CertExpires.IsZero() && h.lastCertEnd().Before(f.Now):
		return Reason{Code: reasonExpired, Text: "certificate expired at " + plain.Time(h.lastCertEnd()), Check: "cert.expiry"}
	}
	r := Reason{Code: reasonNothing, Text: "no contact since " + plain.Time(later(heard, since)), Fix: fixNothing}
	if !k.Valid && k.At.After(since) {
		r.Text += fmt.Sprintf("; an unverified client with its name was rejected at %s: %s", plain.Time(k.At), titleOf(k.Kind))
	}
	return r
}

// rejected reports whether the newest verified contact was a rejection. It is newer than
// every report of the host, so it names the reason.
func (h *Host) rejected() bool {
	return h.AuthFailure.Valid && h.AuthFailure.At.After(later(later(h.Contact.At, h.Contact.Any), later(h.Accepted, h.Snapshot.At)))
}

// ownEvidence reports whether a finding rests on the receiver's own evidence, which a later
// rejection does not change.
func ownEvidence(x Finding) bool {
	return x.Reason.Code == reasonReceiver || x.Symptom == Cloned || x.Symptom == TokenMisused || x.Symptom == Unstamped
}

// needsToken reports whether a host was readmitted, tries its revoked certificate, and has
// no join token.
func (h *Host) needsToken(now time.Time) bool {
	return h.rejected() && h.Roster != nil && h.Roster.State == roster.Pending && !h.Roster.TokenExpires.After(now)
}

// authFailure returns the reason for a rejected request with a valid certificate chain.
func (f *Facts) authFailure(h *Host) Reason {
	k := h.AuthFailure
	if h.Roster != nil && h.Roster.State == roster.Pending {
		text := "readmitted, but its certificate is revoked"
		if h.needsToken(f.Now) {
			text += " and it has no new join token"
		}
		return Reason{
			Code: reasonRevoked, Text: fmt.Sprintf("%s; last rejected at %s", text, plain.Time(k.At)),
			Check: "receiver.auth", Fix: known(wire.CertRevoked).Fix,
		}
	}
	at := plain.Time(k.At)
	r := Reason{Code: "refused", Text: fmt.Sprintf("connection rejected at %s: %s", at, titleOf(k.Kind)), Check: "receiver.auth"}
	switch wire.Kind(k.Kind) {
	case wire.CertExpired:
		r.Code, r.Text, r.Check = reasonExpired, "certificate is outside its validity, rejected at "+at, "cert.expiry"
	case wire.BadBearer:
		r.Code, r.Text, r.Check = "bad-token", "bad bearer token, rejected at "+at, "bearer.present"
	case wire.CertRevoked, wire.Unauthorized:
		r.Code = reasonRevoked
	case wire.OtherHost:
		r.Code, r.Check = "other-host", "cert.host"
	}
	if k.Detail != "" {
		r.Text += " (" + check.Sanitize(k.Detail, 200) + ")"
	}
	return r
}

// refusal returns the reason for a refused PUT.
func (f *Facts) refusal(r Refusal) Reason {
	kind := wire.Kind(r.Kind)
	out := Reason{Code: "refused", Text: fmt.Sprintf("refused with %d: %s", r.Status, titleOf(r.Kind)), Fix: known(kind).Fix}
	switch kind {
	case wire.Gated:
		text := fmt.Sprintf("the gate refuses commit %.12s", check.Sanitize(r.Commit, 40))
		switch {
		case r.Commit == "":
			text = "the gate refuses its commit"
		case r.Blocked:
			text += ", which is blocked"
		}
		out = gated(text, r.Blocked)
	case wire.Unstamped:
		out = Reason{Code: "unstamped", Text: "its build carries no commit", Check: "version.stamp"}
	case wire.CertExpired:
		out = Reason{Code: reasonExpired, Text: "certificate is outside its validity", Check: "cert.expiry"}
	case wire.BadBearer:
		out = Reason{Code: "bad-token", Text: "bad bearer token", Check: "bearer.present"}
	}
	return out
}

// gated returns the reason for a host whose running commit the gate refuses.
func (c Contact) gated() Reason {
	return gated("the gate refuses the code it runs: "+c.Gated, c.Blocked)
}

// gated returns the reason for a commit that the gate refuses. A blocked commit has a fix
// of its own, because adding it to the accepted commits does not help.
func gated(text string, blocked bool) Reason {
	r := Reason{Code: "gated", Text: text, Check: gateCheck}
	if blocked {
		r.Fix = fixBlocked
	}
	return r
}

// failing returns the reason for failing checks: the first one that this version knows.
func (f *Facts) failing(h *Host, ids []string) Reason {
	for _, id := range ids {
		if id == gateCheck && h.Contact.Gated != "" {
			return h.Contact.gated() // the receiver's own verdict has more details
		}
		if c, ok := f.Known(id); ok {
			return Reason{Code: "failing-check", Text: fmt.Sprintf("online, but a check fails: %s (%s)", c.ID, c.Title), Check: c.ID}
		}
	}
	text := "online, but a check fails that this receiver does not know: " + check.Sanitize(ids[0], 64)
	return Reason{Code: "failing-check", Text: text, Fix: fixDoctor}
}

// known returns the answer of a kind. A ledger may have kinds of other versions.
func known(k wire.Kind) wire.Answer {
	all := wire.Answers()
	if i := slices.IndexFunc(all, func(a wire.Answer) bool { return a.Kind == k }); i >= 0 {
		return all[i]
	}
	return wire.Answer{Kind: k, Title: check.Sanitize(string(k), 64), Fix: fixDoctor}
}

func titleOf(kind string) string { return known(wire.Kind(kind)).Title }

// orReceiverFault returns r, or if a check of the receiver fails on which the host
// depends, that failure, because nothing on the host can fix it.
func (f *Facts) orReceiverFault(id string, r Reason) Reason {
	if row, fails := f.fails(id); fails {
		return Reason{Code: reasonReceiver, Text: fmt.Sprintf("the receiver's own check %s fails: %s", id, row.Detail), Fix: row.Fix}
	}
	return r
}

// fails returns the receiver's own check of an id, if that fails.
func (f *Facts) fails(id string) (check.Row, bool) {
	i := slices.IndexFunc(f.Receiver, func(r check.Row) bool { return r.ID == id && r.Status == check.Fail })
	if i < 0 {
		return check.Row{}, false
	}
	return f.Receiver[i], true
}

// fix returns the command to paste, and where: the finding's own, or that of its check in
// this receiver's registry.
func (f *Facts) fix(x Finding) string {
	fix := x.Reason.Fix
	if c, ok := f.Known(x.Reason.Check); ok && fix == "" {
		fix = c.Fix
	}
	return forHost(fix, x.Host)
}

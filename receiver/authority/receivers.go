package authority

import (
	"cmp"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/listen"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// inviteLife is how long an invitation may be used.
const inviteLife = time.Hour

// receiverEvent is a row of receivers.jsonl: the other receivers that share the work of this
// one. Their names are not names of hosts, and their tokens are not tokens of hosts.
type receiverEvent struct {
	At       time.Time    `json:"at"`
	Receiver ident.Host   `json:"receiver"`
	Event    string       `json:"event"` // invited, certified or revoked
	Secret   ident.Digest `json:"secret_sha256,omitempty"`
	Expires  time.Time    `json:"expires,omitzero"` // of the invitation or the certificate
	Key      ident.Digest `json:"key,omitempty"`
	Serial   string       `json:"serial,omitempty"`
	From     string       `json:"from,omitempty"`
}

const (
	receiverInvited   = "invited"
	receiverCertified = "certified" // with a secret: by invitation, which is bound to the key from then on
	receiverRevoked   = "revoked"
)

// receiver is the state of a receiver, folded from its events.
type receiver struct {
	secret  ident.Digest // of the last invitation
	until   time.Time    // its end
	bound   ident.Digest // the key that used it; "" until then
	key     ident.Digest // of the last certificate; "" without one
	expires time.Time    // its end
	from    string
	revoked time.Time
}

// Invitation is the join token of a receiver. It is shown once: the authority stores only
// its digest.
type Invitation struct {
	Token   string    `json:"token"` // see wire.ParseServerToken
	Expires time.Time `json:"expires"`
	Active  bool      `json:"active,omitempty"` // the machine that uses it replaces a receiver
}

// ReceiverInfo describes a receiver that was invited.
type ReceiverInfo struct {
	Name    ident.Host `json:"name"`
	State   string     `json:"state"`            // invited, expired, active or revoked
	Expires time.Time  `json:"expires,omitzero"` // of the certificate or the invitation
	From    string     `json:"from,omitempty"`   // where it asked from last
}

// openReceivers reads receivers.jsonl.
func (a *Authority) openReceivers() (err error) {
	if a.receivers, err = a.open(ReceiversFile, privateMode); err != nil {
		return err
	}
	a.others = map[ident.Host]*receiver{}
	for row, err := range ledger.Rows(a.o.FS, a.path(ReceiversFile), timeKey, time.Time{}) {
		if err != nil {
			return err
		}
		var e receiverEvent
		if json.Unmarshal(row.Line, &e) == nil && e.Receiver != "" {
			a.applyReceiver(e)
		}
	}
	return nil
}

// recordReceiver makes an event durable and applies it.
func (a *Authority) recordReceiver(e receiverEvent) error {
	err := a.receivers.Append(func(at time.Time) any {
		e.At = at
		return e
	})
	if err == nil {
		a.applyReceiver(e)
	}
	return err
}

func (a *Authority) applyReceiver(e receiverEvent) {
	r := a.others[e.Receiver]
	if r == nil {
		r = &receiver{}
		a.others[e.Receiver] = r
	}
	switch e.Event {
	case receiverInvited: // a former invitation is void
		r.secret, r.until, r.bound = e.Secret, e.Expires, ""
	case receiverCertified:
		if e.Secret != "" {
			r.bound, r.revoked = e.Key, time.Time{}
		}
		r.key, r.expires, r.from = e.Key, e.Expires, e.From
	case receiverRevoked:
		*r = receiver{revoked: e.At, from: r.from}
	}
}

// invite creates an invitation for a receiver.
func (a *Authority) invite(name ident.Host, by string) (Invitation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	expires := a.o.Now().Add(inviteLife).UTC().Truncate(time.Second)
	t := wire.Token{
		Server: true, Host: name, Receiver: a.o.PublicURL, Authority: a.o.Config.URL,
		Pin: string(pki.PinOf(a.pinnedRoot())), Secret: newTokenSecret(),
	}
	old := a.others[name]
	i := Invitation{Token: t.String(), Expires: expires, Active: old != nil && old.key != ""}
	err := a.recordReceiver(receiverEvent{Receiver: name, Event: receiverInvited, Secret: hashSecret(t.Secret), Expires: expires, From: by})
	if err != nil {
		return Invitation{}, err
	}
	a.o.Log.Info("invited a receiver", "receiver", string(name), "by", by, "expires", expires)
	return i, nil
}

// revokeReceiver ends the invitation and the renewals of a receiver.
func (a *Authority) revokeReceiver(name ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.others[name]
	if r == nil {
		return invalid("no such receiver", "sudo cis490 receiver list", "%s was never invited", name)
	}
	if r.secret == "" && r.key == "" {
		return nil
	}
	a.o.Log.Warn("revoked a receiver", "receiver", string(name), "by", by)
	return a.recordReceiver(receiverEvent{Receiver: name, Event: receiverRevoked, From: by})
}

func (a *Authority) listReceivers() []ReceiverInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []ReceiverInfo{}
	for name, r := range a.others {
		i := ReceiverInfo{Name: name, State: "active", Expires: r.expires, From: r.from}
		switch {
		case r.key != "":
		case r.secret == "":
			i.State = "revoked"
		case a.o.Now().Before(r.until):
			i.State, i.Expires = "invited", r.until
		default:
			i.State, i.Expires = "expired", r.until
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(x, y ReceiverInfo) int { return strings.Compare(string(x.Name), string(y.Name)) })
	return all
}

func (a *Authority) postServerCert(r *http.Request, name ident.Host, from string) (any, error) {
	var req wire.CertRequest
	if err := decode(r.Body, &req); err != nil {
		return nil, err
	}
	out, err := a.certifyReceiver(name, req, from)
	if err == nil {
		listen.Verified(r.Context(), receiverLimit(name), hostConns)
	}
	return out, err
}

// receiverLimit is the key of a receiver's limits. It is not a host's name.
func receiverLimit(name ident.Host) string { return "receiver " + string(name) }

// certifyReceiver issues the server certificate of another receiver, for an invitation or for
// the key of its last certificate. A rejection is a *wire.Problem.
func (a *Authority) certifyReceiver(name ident.Host, req wire.CertRequest, from string) (wire.CertAnswer, error) {
	csr, key, csrErr := parseCSR(req, name)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := cmp.Or(a.others[name], &receiver{})
	e := receiverEvent{Receiver: name, Event: receiverCertified, Key: key, From: from}
	if req.Token != "" {
		e.Secret = hashSecret(req.Token)
	}
	refuse := func(format string, args ...any) (wire.CertAnswer, error) {
		return wire.CertAnswer{}, wire.NewProblem(wire.NotInvited, format, args...)
	}
	switch invited := req.Token != ""; {
	case csrErr != nil:
		return wire.CertAnswer{}, wire.NewProblem(wire.BadCSR, "%v", csrErr)
	case invited && subtle.ConstantTimeCompare([]byte(e.Secret), []byte(r.secret)) != 1:
		return refuse("there is no such invitation of receiver %s, or a newer one replaced it", name)
	case invited && r.bound != "" && r.bound != key:
		a.o.Log.Warn("invitation used with another key", "receiver", string(name), "from", from, "bound_from", r.from)
		return refuse("this invitation of receiver %s is for the machine that used it first", name)
	case invited && r.bound == "" && !a.o.Now().Before(r.until):
		return refuse("the invitation of receiver %s expired at %s", name, plain.Time(r.until))
	case !invited && !r.revoked.IsZero():
		return refuse("receiver %s was revoked at %s", name, plain.Time(r.revoked))
	case !invited && (r.key == "" || r.key != key):
		return refuse("no server certificate of receiver %s was issued to this key", name)
	}
	if !a.certs.Allow(receiverLimit(name)) {
		p := wire.NewProblem(wire.Busy, "receiver %s is over the limit of %d certificates at once", name, certBurst)
		p.RetryAfter = 1 + int(a.certs.Wait(receiverLimit(name)).Seconds())
		return wire.CertAnswer{}, p
	}
	cert, err := a.ca.Server(csr.PublicKey, a.publicNames, a.o.Now(), a.o.Config.ServerLife.D())
	if err != nil {
		return wire.CertAnswer{}, err
	}
	e.Serial, e.Expires = pki.Serial(cert), cert.NotAfter
	if err := a.recordReceiver(e); err != nil {
		return wire.CertAnswer{}, err
	}
	a.o.Log.Info("issued a server certificate", "receiver", string(name), "names", a.publicNames, "serial", e.Serial, "from", from,
		"invited", req.Token != "", "expires", e.Expires)
	return wire.CertAnswer{
		Certificate: string(pki.EncodeCerts(append([]*x509.Certificate{cert}, a.ca.chain(a.o.Now())...)...)),
		CA:          string(pki.EncodeCerts(a.bundle()...)),
	}, nil
}

package authority

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Limits of machines that wait for approval. They are unknown clients: each takes at most
// 1 KiB of memory, and nothing on the disk.
const (
	maxJoins        = 64               // a random code matches one with a probability of 64 in a million
	maxNetworkJoins = 32               // per IPv4 /24 or IPv6 /64
	joinLife        = 10 * time.Minute // until it must be approved, and then until it must fetch the token
	joinEvery       = 2 * time.Second
	joinTokenTTL    = time.Hour
)

// join is a machine that waits for approval.
type join struct {
	id         string
	host       ident.Host
	root       ident.Digest
	commitment ident.Digest
	nonce      string // the authority's
	code       string // "" until the machine reveals its nonce
	from       string
	network    string
	made       time.Time
	expires    time.Time
	asked      time.Time
	token      string // "" until it is approved
}

// joins are the machines that wait for approval.
type joins struct {
	mu  sync.Mutex
	all []*join
	now func() time.Time
}

// Waiting is a machine that waits for approval. The operator has to read its code on the
// machine's own screen.
type Waiting struct {
	Host    ident.Host `json:"host"`
	From    string     `json:"from"`
	Since   time.Time  `json:"since"`
	Expires time.Time  `json:"expires"`
}

// Approval admits the machine that shows a code.
type Approval struct {
	Code string `json:"code"`
	// Again admits the machine even if its name belongs to an active host, which it replaces.
	Again bool `json:"again,omitempty"`
}

// Approved is a machine that was admitted.
type Approved struct {
	Host ident.Host   `json:"host"`
	From string       `json:"from"`
	Root ident.Digest `json:"root"` // SHA-256, as the machine shows it
}

// start adds a machine. It replaces one with the same name and address.
func (js *joins) start(j join) (*join, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	now := js.now()
	same := 0
	js.all = slices.DeleteFunc(js.all, func(o *join) bool {
		return !now.Before(o.expires) || (o.token == "" && o.host == j.host && o.from == j.from)
	})
	for _, o := range js.all {
		if o.network == j.network {
			same++
		}
	}
	if len(js.all) >= maxJoins || same >= maxNetworkJoins {
		p := wire.NewProblem(wire.Busy, "%d machines wait for approval, %d of them in network %s", len(js.all), same, j.network)
		p.Fix = "on the receiver: sudo cis490 host approve CODE for those that wait, or: sudo cis490 token create " + string(j.host)
		p.RetryAfter = int(joinLife.Seconds())
		return nil, p
	}
	j.id, j.nonce, j.made, j.expires = newSecret(), newNonce(), now, now.Add(joinLife)
	js.all = append(js.all, &j)
	return &j, nil
}

// wait returns the token of a machine, or "" while it is not approved.
func (js *joins) wait(h ident.Host, ask wire.JoinWait) (string, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	now := js.now()
	i := slices.IndexFunc(js.all, func(j *join) bool {
		return subtle.ConstantTimeCompare([]byte(j.id), []byte(ask.ID)) == 1 && j.host == h && now.Before(j.expires)
	})
	if i < 0 {
		return "", wire.NewProblem(wire.BadToken, "this request of %s has expired", h)
	}
	j := js.all[i]
	if now.Sub(j.asked) < joinEvery {
		p := wire.NewProblem(wire.Busy, "asked again within %s", joinEvery)
		p.RetryAfter = int(joinEvery.Seconds())
		return "", p
	}
	j.asked = now
	if j.code == "" {
		code := wire.JoinCode(j.root, j.host, ask.Nonce, j.nonce)
		if wire.CommitJoin(ask.Nonce) != j.commitment || slices.ContainsFunc(js.all, func(o *join) bool { return o.code == code }) {
			js.all = slices.Delete(js.all, i, i+1)
			return "", wire.NewProblem(wire.BadToken, "this request of %s is void: start again", h)
		}
		j.code = code
	}
	return j.token, nil
}

// find returns the machine that shows a code, or nil.
func (js *joins) find(code string) *join {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.all {
		if j.code == code && j.token == "" && js.now().Before(j.expires) {
			found := *j
			return &found
		}
	}
	return nil
}

// approved stores the token of an approved machine.
func (js *joins) approved(id, token string) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.all {
		if j.id == id {
			j.token, j.expires = token, js.now().Add(joinLife)
		}
	}
}

// waiting lists machines with a code on their screen, the oldest first.
func (js *joins) waiting() []Waiting {
	js.mu.Lock()
	defer js.mu.Unlock()
	all := []Waiting{}
	for _, j := range js.all {
		if j.code != "" && j.token == "" && js.now().Before(j.expires) {
			all = append(all, Waiting{j.host, j.from, j.made, j.expires})
		}
	}
	return all
}

// startJoin starts the approval of a machine without a token.
func (a *Authority) startJoin(r *http.Request, h ident.Host, from string) (any, error) {
	var ask wire.JoinRequest
	if err := decode(r.Body, &ask); err != nil {
		return nil, err
	}
	a.mu.Lock()
	ours := false
	for _, c := range a.bundle() {
		ours = ours || pki.PinOf(c) == ask.Root
	}
	a.mu.Unlock()
	if !ours || ask.Commitment == "" {
		return nil, wire.NewProblem(wire.Malformed, "body: root is not one of this authority, or there is no commitment")
	}
	j, err := a.joins.start(join{host: h, root: ask.Root, commitment: ask.Commitment, from: from, network: network(from)})
	if err != nil {
		return nil, err
	}
	return wire.JoinStarted{ID: j.id, Nonce: j.nonce, Expires: int(joinLife.Seconds()), Interval: int(joinEvery.Seconds())}, nil
}

func (a *Authority) waitJoin(r *http.Request, h ident.Host, _ string) (any, error) {
	var ask wire.JoinWait
	if err := decode(r.Body, &ask); err != nil {
		return nil, err
	}
	if b, err := hex.DecodeString(ask.Nonce); err != nil || len(b) != wire.JoinNonceBytes {
		return nil, wire.NewProblem(wire.Malformed, "body: nonce: want %d bytes in hex", wire.JoinNonceBytes)
	}
	token, err := a.joins.wait(h, ask)
	return wire.JoinAnswer{Token: token}, err
}

// approve creates a join token for the machine that shows a code. The machine fetches it
// over a connection whose server the code has verified.
func (a *Authority) approve(ask Approval, by string) (Approved, error) {
	code := strings.NewReplacer(" ", "", "-", "").Replace(ask.Code)
	j := a.joins.find(code)
	if j == nil {
		return Approved{}, invalid("no machine shows this code", "sudo cis490 host pending   # lists machines that wait; a code lives 10 minutes",
			"no machine waits with code %.12q", ask.Code)
	}
	host, _, err := a.roster.Host(j.host)
	if err != nil {
		return Approved{}, err
	}
	if host.State == roster.Active && !ask.Again {
		return Approved{}, invalid("this name belongs to a host",
			"sudo cis490 host approve "+code+" --again   # only if that host was reinstalled; otherwise, on the new machine: --name OTHER",
			"%s is an active host since %s", j.host, plain.Time(host.Since))
	}
	if host.State == roster.Gone {
		return Approved{}, invalid("host is decommissioned",
			fmt.Sprintf("sudo cis490 host readmit %s && sudo cis490 host approve %s", j.host, code),
			"%s was decommissioned at %s", j.host, plain.Time(host.Since))
	}
	made, err := a.createTokens(TokenRequest{Hosts: []ident.Host{j.host}, TTL: joinTokenTTL}, by)
	if err != nil {
		return Approved{}, err
	}
	a.joins.approved(j.id, made[0].Token)
	a.o.Log.Info("approved a machine", "host", j.host, "from", j.from, "by", by)
	return Approved{j.host, j.from, j.root}, nil
}

// network returns the IPv4 /24 or IPv6 /64 of an address.
func network(from string) string {
	addr, err := netip.ParseAddr(from)
	if err != nil || !addr.Unmap().Is4() {
		return listen.Source(from)
	}
	p, err := addr.Unmap().Prefix(24)
	if err != nil {
		return ""
	}
	return p.String()
}

func newNonce() string {
	b := make([]byte, wire.JoinNonceBytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

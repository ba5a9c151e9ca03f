package wire

import (
	"net/http"
	"slices"
)

// Action is what the shipper does after an answer to a PUT.
type Action string

// The actions.
const (
	Retire     Action = "retire"     // save the receipt, then move it out of the outbox
	Quarantine Action = "quarantine" // quarantine; retry once when the policy changes
	Conflict   Action = "conflict"   // quarantine; no automatic retry, no expiry
	HoldCommit Action = "hold"       // send nothing of this commit until the policy changes
	Hourly     Action = "hourly"     // keep; back off up to an hour; a new certificate resets
	Repack     Action = "repack"     // pack again once, then quarantine
	BackOff    Action = "back off"   // keep; full jitter, at most 10 minutes, Retry-After
	Await      Action = "await"      // keep; full jitter, at most a minute, Retry-After
	Network    Action = "network"    // keep; full jitter, at most 45 seconds
)

// The kinds of problems.
const (
	Malformed     Kind = "malformed"
	Unstamped     Kind = "unstamped"
	TooLarge      Kind = "too-large"
	Unauthorized  Kind = "unauthorized"
	CertExpired   Kind = "certificate-expired"
	CertRevoked   Kind = "certificate-revoked"
	BadBearer     Kind = "bad-bearer"
	OtherHost     Kind = "other-host"
	Decommission  Kind = "decommissioned"
	UnknownHost   Kind = "unknown-host"
	OtherDigest   Kind = "conflict"
	Gated         Kind = "gate"
	BadDigest     Kind = "digest-mismatch"
	TimedOut      Kind = "timeout"
	Busy          Kind = "busy"
	Broken        Kind = "internal"
	NotReady      Kind = "not-ready"
	Full          Kind = "full"
	Quota         Kind = "quota"
	NotFound      Kind = "not-found"
	BadMethod     Kind = "method-not-allowed"
	BadToken      Kind = "bad-token"
	TokenUsed     Kind = "token-used"
	TokenExpired  Kind = "token-expired"
	NotThisKey    Kind = "not-this-key"
	BadCSR        Kind = "bad-csr"
	NeedsOperator Kind = "needs-operator"
	NotInvited    Kind = "not-invited"
)

// Answer is a row of the table of problems: its meaning, its fix, and the shipper's action
// after a PUT.
type Answer struct {
	Kind   Kind
	Status int
	Title  string
	Fix    string // the commands to run, and on which machine
	Action Action
}

// Answers returns the table of problems, sorted by status. The action of 200 and 201 is
// Retire.
func Answers() []Answer {
	const (
		doctor = "on the lab host: sudo cis490 doctor"
		enroll = "on the receiver: sudo cis490 token create HOST   # then paste what it prints on the lab host"
		// A decommissioned host gets no token before it is readmitted.
		readmit = "on the receiver: sudo cis490 host readmit HOST && sudo cis490 token create HOST   " +
			"# then paste what it prints on the lab host"
		wait = "nothing: the sender retries"
		rx   = "on the receiver: sudo cis490 doctor"
	)
	return []Answer{
		{Malformed, http.StatusBadRequest, "malformed request", doctor, Quarantine},
		{
			Unstamped, http.StatusBadRequest, "no code commit",
			"on the receiver: sudo cis490 release list   # if it lists no release: sudo cis490 release publish DIR, which make dist made; " +
				"HOST installs it within 5 minutes", Quarantine,
		},
		{BadCSR, http.StatusBadRequest, "certificate request refused", "on the lab host: sudo cis490 cert-fetch --renew", Hourly},
		{Unauthorized, http.StatusUnauthorized, "no valid client certificate", "on the lab host: sudo cis490 cert-fetch --renew", Hourly},
		{
			CertExpired, http.StatusUnauthorized, "client certificate is outside its validity",
			"nothing: cert-fetch renews it within 5 minutes; if not, on the lab host: sudo cis490 cert-fetch --renew", Hourly,
		},
		{CertRevoked, http.StatusUnauthorized, "client certificate is revoked", enroll, Hourly},
		{BadBearer, http.StatusUnauthorized, "bad bearer token", enroll, Hourly},
		{
			NeedsOperator, http.StatusUnauthorized, "operator token needed",
			"on the receiver: sudo cat /etc/cis490/operator   # is what 'Authorization: Bearer' carries", Hourly,
		},
		{BadToken, http.StatusUnauthorized, "join token refused", enroll, Hourly},
		{NotThisKey, http.StatusUnauthorized, "key is not the one last issued to this host", enroll, Hourly},
		{
			OtherHost, http.StatusForbidden, "certificate names another host",
			"on the lab host: sudo cis490 doctor --only cert.host   " +
				"# shows both names: set host in /etc/cis490/lab-host.toml to the one of the certificate", Hourly,
		},
		{Decommission, http.StatusForbidden, "host is decommissioned", readmit, Hourly},
		{UnknownHost, http.StatusForbidden, "host is not in the roster", enroll, Hourly},
		{TokenUsed, http.StatusForbidden, "join token was used already", enroll, Hourly},
		{TokenExpired, http.StatusForbidden, "join token has run out", enroll, Hourly},
		{
			NotInvited, http.StatusForbidden, "receiver gets no certificate",
			"on the receiver: sudo cis490 receiver invite HOST | ssh HOST sudo cis490 install receiver --join -   # on the one " +
				"with the authority", Hourly,
		},
		{
			NotFound, http.StatusNotFound, "no such resource",
			"nothing: the path is wrong, or its sender and the receiver are of different versions", BackOff,
		},
		{
			BadMethod, http.StatusMethodNotAllowed, "method not allowed here",
			"nothing: the method is wrong, or its sender and the receiver are of different versions", BackOff,
		},
		{TimedOut, http.StatusRequestTimeout, "no byte for too long", wait, BackOff},
		{
			OtherDigest, http.StatusConflict, "another digest is stored under this episode",
			"on the lab host: sudo cis490 episode list --state quarantined   # what is stored is never overwritten", Conflict,
		},
		{
			Gated, http.StatusPreconditionFailed, "code commit is outside the gate",
			"nothing: autoupdate brings a released build; to accept this commit, add it to [gate] " +
				"extra_commits in /etc/cis490/receiver.toml on the receiver", HoldCommit,
		},
		{
			TooLarge, http.StatusRequestEntityTooLarge, "too large",
			"on the receiver: grep -n episode_size /etc/cis490/receiver.toml   " +
				"# raise it, then: sudo systemctl restart cis490-receiver", Quarantine,
		},
		{BadDigest, http.StatusUnprocessableEntity, "body does not match its digest", wait, Repack},
		{Busy, http.StatusTooManyRequests, "too many requests", wait, BackOff},
		{Broken, http.StatusInternalServerError, "receiver failed", rx, BackOff},
		{NotReady, http.StatusServiceUnavailable, "receiver is not ready", rx, Await},
		{
			Full, http.StatusInsufficientStorage, "receiver's disk is full (a reserve is kept)",
			"on the receiver: df -h /var/lib/cis490   # free space there, or give it a larger disk", BackOff,
		},
		{
			Quota, http.StatusInsufficientStorage, "the host's quota is used up",
			"on the receiver: grep -n host_quota /etc/cis490/receiver.toml   # raise it, then: sudo systemctl restart cis490-receiver", BackOff,
		},
	}
}

// AnswerOf returns the row of a kind, or that of Broken for an unknown kind.
func AnswerOf(k Kind) Answer {
	var broken Answer
	for _, a := range Answers() {
		if a.Kind == k {
			return a
		}
		if a.Kind == Broken {
			broken = a
		}
	}
	return broken
}

// known reports whether the table contains a kind.
func known(k Kind) bool {
	return slices.ContainsFunc(Answers(), func(a Answer) bool { return a.Kind == k })
}

// ActionOf returns the shipper's action after a problem. The status decides for kinds that
// only a newer receiver knows.
func ActionOf(p *Problem) Action {
	for _, a := range Answers() {
		if a.Kind == p.Kind {
			return a.Action
		}
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return Quarantine
	case http.StatusUnauthorized, http.StatusForbidden:
		return Hourly
	case http.StatusConflict:
		return Conflict
	case http.StatusPreconditionFailed:
		return HoldCommit
	case http.StatusUnprocessableEntity:
		return Repack
	default:
		return BackOff
	}
}

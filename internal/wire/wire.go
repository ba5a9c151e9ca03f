// Package wire is the contract between lab hosts and receiver, and the one home
// of its paths, headers, bodies and answers (spec §3). Both sides compile
// against it; docs/protocol.md is checked against its table.
package wire

import (
	"time"

	"cis490/internal/ident"
)

// Paths. Those with a pattern are for http.ServeMux.
const (
	EpisodePattern    = "PUT /v1/episodes/{host}/{file}"
	PingPath          = "/v1/ping"
	ReconcilePath     = "/v1/reconcile"
	HostHealthPath    = "/v1/host-health"
	GatePrefix        = "/v1/gate/"
	ReleasesPath      = "/v1/releases"
	ReleaseBlobPrefix = "/v1/releases/blob/"
	FleetPath         = "/v1/fleet"
	AlertsPath        = "/v1/alerts"
	HealthzPath       = "/healthz"
	MetricsPath       = "/metrics"
	ReadyzPath        = "/readyz"

	// The authority's own paths, on its own listener.
	CAPath              = "/v1/ca"
	AuthorityHealthPath = "/v1/health"
	CertPrefix          = "/v1/cert/"
)

// TarballSuffix ends the file name of an episode on the wire and on disk.
const TarballSuffix = ".tar.zst"

// EpisodePath returns the path that an episode is PUT to.
func EpisodePath(h ident.Host, id ident.EpisodeID) string {
	return "/v1/episodes/" + string(h) + "/" + string(id) + TarballSuffix
}

// Headers of a PUT, beside Content-Type, Content-Length and Authorization.
const (
	HeaderDigest  = "X-Content-SHA256"
	HeaderSchema  = "X-Schema-Version"
	HeaderHost    = "X-Lab-Host"
	HeaderEpisode = "X-Episode-Id"
	HeaderCommit  = "X-Cis490-Code-Commit"

	ContentTypeEpisode = "application/zstd"
	ContentTypeProblem = "application/problem+json"
	ContentTypeJSON    = "application/json"
	SchemaVersion      = "1"
)

// Limits in bytes on bodies that are not episodes.
const (
	MaxSnapshot = 64 << 10
	MaxPing     = 16 << 10
	MaxAnswer   = 64 << 10 // what a client reads of an answer to a PUT or ping
)

// Receipt is the body of a 200 and 201: the receiver's word that the episode is
// durable there.
type Receipt struct {
	Host     ident.Host      `json:"host"`
	Episode  ident.EpisodeID `json:"episode"`
	Digest   ident.Digest    `json:"sha256"`
	Size     int64           `json:"size"` // bytes
	StoredAt time.Time       `json:"stored_at"`
	StoreID  string          `json:"store_id"`
}

// Queue is what a lab host says of its outbox in a ping.
type Queue struct {
	Waiting     int       `json:"waiting"`
	Held        int       `json:"held"` // waiting for the gate
	Quarantined int       `json:"quarantined"`
	Bytes       int64     `json:"bytes"` // of waiting and held
	Oldest      time.Time `json:"oldest,omitzero"`
	LastShipped time.Time `json:"last_shipped,omitzero"`
	Recording   int       `json:"recording"` // episodes in progress
}

// Ping is the body of POST /v1/ping.
type Ping struct {
	Version string       `json:"version"`
	Commit  ident.Commit `json:"commit,omitempty"`
	BootID  string       `json:"boot_id"`
	Clock   time.Time    `json:"clock"`
	Queue   Queue        `json:"queue"`
	Failing []string     `json:"failing,omitempty"` // ids of failing hard checks
	Leaving bool         `json:"leaving,omitempty"` // about to stop on purpose
	OS      string       `json:"os,omitempty"`      // as GOOS
	Arch    string       `json:"arch,omitempty"`    // as GOARCH
	Update  *Update      `json:"update,omitempty"`  // absent where nothing keeps the host on releases
}

// Update is what a host tells of its updates, and the content of the public
// file /opt/cis490/autoupdate.json.
type Update struct {
	Good  Running `json:"good"`            // what has proven itself here
	Trial *Trial  `json:"trial,omitempty"` // nil: none is under way
	// RolledBack are the binaries that failed here, latest last, at most MaxRolledBack.
	RolledBack []RolledBack `json:"rolled_back,omitempty"`
	// Refused is why what the receiver offers is not taken; empty: it is, or
	// nothing new is offered.
	Refused string `json:"refused,omitempty"`
}

// MaxRolledBack bounds what a ping tells of failed binaries.
const MaxRolledBack = 8

// Running names one build by its binary.
type Running struct {
	Version string       `json:"version"`
	Digest  ident.Digest `json:"sha256,omitempty"`
	Seq     uint64       `json:"seq,omitempty"` // 0: brought by hand
}

// Trial is a new version that is not proven on its host yet.
type Trial struct {
	Running
	Phase    string    `json:"phase"` // applying, observing, rolling-back
	Since    time.Time `json:"since"`
	Observed float64   `json:"observed_seconds"` // of the uptime that it needs
	Needs    float64   `json:"needs_seconds"`
	Waiting  string    `json:"waiting,omitempty"` // for what, beside time
}

// RolledBack is a binary that failed on its host.
type RolledBack struct {
	Running
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// Offer is the body of GET /v1/releases: a manifest and its minisign signature,
// byte for byte.
type Offer struct {
	Manifest  string `json:"manifest"`
	Signature string `json:"signature"`
}

// Pong answers a ping.
type Pong struct {
	ServerTime time.Time    `json:"server_time"`
	HeadCommit ident.Commit `json:"head_commit,omitempty"`
	Gate       Verdict      `json:"gate"`     // for the ping's commit
	Policy     string       `json:"policy"`   // digest of gate, limits and receiver version
	StoreID    string       `json:"store_id"` // changes when the receiver was restored
	FleetCheck time.Time    `json:"fleet_check,omitzero"`
}

// Verdict is the gate's word on a commit, and the body of GET /v1/gate/{commit}.
type Verdict struct {
	Accepted   bool         `json:"accepted"`
	HeadCommit ident.Commit `json:"head_commit,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	Blocked    bool         `json:"blocked,omitempty"` // on purpose: no list of accepted commits helps
}

// Pair names an episode by content.
type Pair struct {
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
}

// Reconcile is the body of POST /v1/reconcile, at most MaxPairs of them.
type Reconcile struct {
	Episodes []Pair `json:"episodes"`
}

// Reconciled says which of the given pairs are stored, archived ones included.
type Reconciled struct {
	StoreID string            `json:"store_id"`
	Stored  []ident.EpisodeID `json:"stored"`
}

// MaxPairs bounds one reconcile request.
const MaxPairs = 1000

// CertRequest is the body of the authority's POST /v1/cert/{host}.
type CertRequest struct {
	CSR   string `json:"csr"`             // PEM
	Token string `json:"token,omitempty"` // the secret of a join token; empty: the CSR's key is the proof
}

// CertAnswer is the authority's answer.
type CertAnswer struct {
	Certificate string   `json:"certificate"` // PEM chain, leaf first
	CA          string   `json:"ca"`          // PEM trust bundle
	ReleaseKeys []string `json:"release_keys,omitempty"`
	Bearer      string   `json:"bearer,omitempty"` // at enrolment only
}

// Silence is the body of POST /v1/alerts/{host}/{symptom}/silence.
type Silence struct {
	Until   time.Time `json:"until,omitzero"` // zero: until the alert resolves
	End     bool      `json:"end,omitempty"`  // tell again from now on
	Comment string    `json:"comment,omitempty"`
}

// AuthorityHealth is the authority's answer to GET /v1/health. The keys are for
// hosts that were enrolled before there were any.
type AuthorityHealth struct {
	Status      string   `json:"status"`
	ReleaseKeys []string `json:"release_keys,omitempty"`
}

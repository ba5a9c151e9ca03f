// Package wire is the contract between lab hosts and receiver: paths, headers, bodies and
// answers. Both sides compile against it, and a test keeps docs/protocol.md equal to the
// table of answers.go.
package wire

import (
	"time"

	"cis490/internal/ident"
)

// Paths; patterns are for http.ServeMux.
const (
	EpisodesPath      = "/v1/episodes"
	EpisodePattern    = "PUT " + EpisodesPath + "/{host}/{file}"
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
	AuthorityPath     = "/v1/authority"
	InstallScriptPath = "/install.sh"

	// The authority's paths, on its own listener.
	CAPath              = "/v1/ca"
	AuthorityHealthPath = "/v1/health"
	CertPrefix          = "/v1/cert/"
	JoinSuffix          = "/join"      // after CertPrefix and a host
	JoinWaitSuffix      = "/join/wait" // after CertPrefix and a host
	ServerSuffix        = "/server"    // after CertPrefix and the name of another receiver
)

// TarballSuffix ends the file name of an episode on the wire and on disk.
const TarballSuffix = ".tar.zst"

// EpisodePath returns the path for the PUT of an episode.
func EpisodePath(h ident.Host, id ident.EpisodeID) string {
	return EpisodesPath + "/" + string(h) + "/" + string(id) + TarballSuffix
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
	ContentTypeRows    = "application/x-ndjson"
	SchemaVersion      = "1"
)

// Limits in bytes on bodies that are not episodes.
const (
	MaxSnapshot = 64 << 10
	MaxPing     = 16 << 10
	MaxAnswer   = 64 << 10 // limit of a client for an answer to a PUT or ping
)

// Receipt is the body of a 200 or 201: the episode is durable in the store.
type Receipt struct {
	Host     ident.Host      `json:"host"`
	Episode  ident.EpisodeID `json:"episode"`
	Digest   ident.Digest    `json:"sha256"`
	Size     int64           `json:"size"` // bytes
	StoredAt time.Time       `json:"stored_at"`
	StoreID  string          `json:"store_id"`
}

// Queue describes a lab host's outbox in a ping.
type Queue struct {
	Waiting     int       `json:"waiting"`
	Held        int       `json:"held"` // held by the gate
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
	Leaving bool         `json:"leaving,omitempty"` // about to stop
	// Uninstalled, with Leaving: the machine is not a lab host any more.
	Uninstalled bool    `json:"uninstalled,omitempty"`
	OS          string  `json:"os,omitempty"`     // as GOOS
	Arch        string  `json:"arch,omitempty"`   // as GOARCH
	Update      *Update `json:"update,omitempty"` // absent if the host is not updated
	// Hardware describes the machine; absent from older hosts and from a farewell.
	Hardware *Hardware `json:"hardware,omitempty"`
}

// Hardware describes a machine, in pings and in meta.json. An empty string means unknown.
type Hardware struct {
	CPU            string `json:"cpu_model"`
	Cores          int    `json:"cores"`     // logical processors
	RAM            int64  `json:"ram_bytes"` // that the kernel may use
	Kernel         string `json:"kernel"`    // its release
	Distribution   string `json:"distribution"`
	Architecture   string `json:"architecture"`   // as Go names it
	Virtualization string `json:"virtualization"` // "none", or as systemd-detect-virt(1) names it
	KVM            bool   `json:"kvm"`            // usable: in a ping by the kernel, in meta.json by the recorder
}

// Update is a machine's update status in its pings, and the content of the public file
// /opt/cis490/autoupdate.json.
type Update struct {
	Good  Running `json:"good"`            // last version that passed its trial here
	Trial *Trial  `json:"trial,omitempty"` // nil: none in progress
	// RolledBack lists the binaries that failed here, latest last, at most MaxRolledBack.
	RolledBack []RolledBack `json:"rolled_back,omitempty"`
	// Refused is why the offered release was rejected; empty if none was.
	Refused string `json:"refused,omitempty"`
}

// MaxRolledBack bounds the failed binaries in a ping.
const MaxRolledBack = 8

// Running identifies a build by its binary.
type Running struct {
	Version string       `json:"version"`
	Digest  ident.Digest `json:"sha256,omitempty"`
	Seq     uint64       `json:"seq,omitempty"` // 0: installed by hand
}

// Trial is a new version on trial.
type Trial struct {
	Running
	Phase    string    `json:"phase"` // applying, observing, rolling-back
	Since    time.Time `json:"since"`
	Observed float64   `json:"observed_seconds"` // uptime so far
	Needs    float64   `json:"needs_seconds"`
	Waiting  string    `json:"waiting,omitempty"` // what it waits for, beside time
}

// RolledBack is a binary that failed its trial on this host.
type RolledBack struct {
	Running
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// Offer is the body of GET /v1/releases: a manifest and its minisign signature, byte for
// byte.
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
	StoreID    string       `json:"store_id"` // changes when the receiver is restored
	FleetCheck time.Time    `json:"fleet_check,omitzero"`
}

// Verdict is the gate's answer about a commit, and the body of GET /v1/gate/{commit}.
type Verdict struct {
	Accepted   bool         `json:"accepted"`
	HeadCommit ident.Commit `json:"head_commit,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	Blocked    bool         `json:"blocked,omitempty"` // by blocked_commits
}

// Pair names an episode by content.
type Pair struct {
	Episode ident.EpisodeID `json:"episode"`
	Digest  ident.Digest    `json:"sha256"`
}

// Reconcile is the body of POST /v1/reconcile, with at most MaxPairs episodes.
type Reconcile struct {
	Episodes []Pair `json:"episodes"`
}

// Reconciled lists the given pairs that are stored, archived ones included.
type Reconciled struct {
	StoreID string            `json:"store_id"`
	Stored  []ident.EpisodeID `json:"stored"`
}

// MaxPairs bounds one reconcile request.
const MaxPairs = 1000

// CertRequest is the body of the authority's POST /v1/cert/{host}.
type CertRequest struct {
	CSR   string `json:"csr"`             // PEM
	Token string `json:"token,omitempty"` // a join token's secret; empty: the CSR's key is the proof
}

// CertAnswer is the authority's answer.
type CertAnswer struct {
	Certificate string   `json:"certificate"` // PEM chain, leaf first
	CA          string   `json:"ca"`          // PEM trust bundle
	ReleaseKeys []string `json:"release_keys,omitempty"`
	Bearer      string   `json:"bearer,omitempty"` // only at enrollment
}

// Silence is the body of POST /v1/alerts/{host}/{symptom}/silence.
type Silence struct {
	Until   time.Time `json:"until,omitzero"` // zero: until the alert resolves
	End     bool      `json:"end,omitempty"`  // end the silence now
	Comment string    `json:"comment,omitempty"`
}

// AuthorityHealth is the authority's answer to GET /v1/health. The keys are for hosts that
// enrolled before there were any.
type AuthorityHealth struct {
	Status      string   `json:"status"`
	ReleaseKeys []string `json:"release_keys,omitempty"`
}

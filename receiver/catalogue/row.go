package catalogue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"cis490/internal/config"
	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/receiver"
)

// State says whether an episode's content could be catalogued.
type State string

// The states. The content of refused episodes cannot be read, is over the limits, or names
// another host, episode or commit; they are stored and listed, but not exported. Unread
// episodes were not there to be read, as when they were archived before.
const (
	OK      State = "ok"
	Refused State = "refused"
	Unread  State = "unread"
)

// LimitsOf returns the limits beyond which an episode is refused.
func LimitsOf(c config.Limits) episode.Limits {
	return episode.Limits{Bytes: int64(c.UnpackedSize), Files: c.UnpackedFiles, Depth: c.UnpackedDepth}
}

// Row is a catalogued episode. The fields from Profile on come from the tarball; they are
// empty unless State is OK.
type Row struct {
	Host       ident.Host      `json:"host"`
	Episode    ident.EpisodeID `json:"episode"`
	Digest     ident.Digest    `json:"sha256"`
	Size       int64           `json:"size"` // bytes of the tarball
	Commit     ident.Commit    `json:"commit,omitempty"`
	ReceivedAt time.Time       `json:"received_at"`
	Archived   bool            `json:"archived,omitempty"`
	State      State           `json:"state"`
	Problem    string          `json:"problem,omitempty"` // why State is not OK

	Profile string         `json:"profile,omitempty"`
	Verdict string         `json:"verdict,omitempty"`
	Class   string         `json:"class,omitempty"`
	Start   time.Time      `json:"start,omitzero"`
	End     time.Time      `json:"end,omitzero"`
	Phases  []string       `json:"phases,omitempty"` // in their order
	Rows    map[string]int `json:"rows,omitempty"`   // by source
}

// Bounds of what a row takes from an episode: far above what is recorded.
const (
	maxWord    = 64 // characters
	maxProblem = 300
	maxPhases  = 64
	maxSources = 16
)

// NewRow returns the row of an index entry whose tarball was not read yet.
func NewRow(e receiver.Entry) Row {
	return Row{
		Host: e.Host, Episode: e.Episode, Digest: e.Digest, Size: e.Size, Commit: e.Commit,
		ReceivedAt: e.ReceivedAt, Archived: e.Archived, State: Unread,
	}
}

// Entry returns the row of the index that an episode has.
func (r *Row) Entry() receiver.Entry {
	return receiver.Entry{
		Host: r.Host, Episode: r.Episode, Digest: r.Digest, Size: r.Size, Commit: r.Commit,
		ReceivedAt: r.ReceivedAt, Archived: r.Archived,
	}
}

// read fills in the fields from the tarball. A tarball that cannot be read, or that names
// another episode, makes a refused row and not an error.
func (r *Row) read(tarball io.Reader, inspect *episode.Inspector) {
	head, err := inspect.ReadHead(tarball, r.Episode)
	m := head.Meta
	switch {
	case err != nil:
	case m.Episode != r.Episode:
		err = fmt.Errorf("%s is of episode %.40q", episode.MetaFile, m.Episode)
	case m.Host != r.Host:
		err = fmt.Errorf("%s is of host %.70q", episode.MetaFile, m.Host)
	case r.Commit != "" && m.Code.Commit != r.Commit:
		err = fmt.Errorf("%s is of commit %.40q", episode.MetaFile, m.Code.Commit)
	case m.Verdict != episode.Accepted && m.Verdict != episode.Failed:
		err = fmt.Errorf("%s has the verdict %.40q", episode.MetaFile, m.Verdict)
	}
	if err != nil {
		r.State, r.Problem = Refused, plain.Line(err.Error(), maxProblem)
		return
	}
	r.State, r.Problem = OK, ""
	r.Profile, r.Class, r.Verdict = plain.Line(m.Profile, maxWord), plain.Line(m.Class, maxWord), string(m.Verdict)
	r.Start, r.End = m.Start.UTC(), m.End.UTC()
	for _, l := range head.Labels {
		if len(r.Phases) < maxPhases {
			r.Phases = append(r.Phases, plain.Line(l.Phase, maxWord))
		}
	}
	for _, source := range slices.Sorted(maps.Keys(m.Rows)) {
		if r.Rows == nil {
			r.Rows = map[string]int{}
		}
		if len(r.Rows) < maxSources {
			r.Rows[plain.Line(source, maxWord)] = max(0, m.Rows[source])
		}
	}
}

// key returns the row's key: its id, whose order is that of the recordings' starts, and its
// host.
func (r Row) key() []byte { return append(idBytes(r.Episode), r.Host...) }

func idBytes(id ident.EpisodeID) []byte {
	u, err := ulid.ParseStrict(string(id))
	if err != nil {
		return make([]byte, len(ulid.ULID{})) // not reached: ids are parsed at the edge
	}
	return u.Bytes()
}

func decode(key, value []byte) (r Row, err error) {
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("%w: row %x: %w", ErrDamaged, key, err)
	}
	if !bytes.Equal(r.key(), key) {
		return r, fmt.Errorf("%w: row %x is of another episode", ErrDamaged, key)
	}
	return r, nil
}

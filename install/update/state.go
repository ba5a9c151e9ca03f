package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// The files of updates below /opt/cis490.
const (
	stateFile   = "state/autoupdate.json" // State; for root only
	unreadFile  = "state/unread"          // since when stateFile cannot be read
	ballastFile = "state/ballast"         // deleted when the disk is full
	fetchDir    = "state/fetch"           // unverified downloads
	logDir      = "state/rolled-back"     // logs of failed versions
	PublicFile  = "autoupdate.json"       // wire.Update; for everybody
	binaryName  = "cis490"
)

// Limits of the state.
const (
	maxState    = 1 << 20
	maxBad      = 32
	ballastSize = 1 << 20
)

// Phase is the phase of a trial.
type Phase string

// The phases of a trial.
const (
	Applying    Phase = "applying"     // current is switched, install runs
	Watching    Phase = "observing"    // it runs and is observed
	RollingBack Phase = "rolling-back" // it failed; good is being restored
)

// Target is a release for this machine.
type Target struct {
	wire.Running
	Commit     ident.Commit   `json:"commit,omitempty"`
	Size       int64          `json:"size"`
	Experiment *manifest.Blob `json:"experiment,omitempty"`
	Folder     string         `json:"folder"` // in versions/
}

// id identifies the content of a version's folder.
func (t Target) id() string {
	if t.Experiment == nil {
		return string(t.Digest)
	}
	return string(t.Digest) + "+" + string(t.Experiment.Digest)
}

// Trial is a version on trial.
type Trial struct {
	Target
	From     string    `json:"from"` // the folder to go back to
	Phase    Phase     `json:"phase"`
	Began    time.Time `json:"began"`
	Attempts int       `json:"attempts"` // to apply it
	// Observed is the observed uptime; Looked and Boot are the time and boot id of the last
	// check.
	Observed config.Duration `json:"observed"`
	Looked   time.Time       `json:"looked"`
	// Unreached is the value of Observed when the receiver was last unreachable.
	Unreached   config.Duration   `json:"unreached,omitempty"`
	Boot        string            `json:"boot"`
	Restarts    map[string]uint32 `json:"restarts,omitempty"` // restarts of daemons before the trial
	Baseline    []string          `json:"baseline,omitempty"` // checks that failed before
	Down        []string          `json:"down,omitempty"`     // daemons that did not run before, or could not start
	PrevFailure string            `json:"ails,omitempty"`     // how the previous version's install failed, just before
	Postponed   bool              `json:"spared,omitempty"`   // rolled back for a fault of the machine
	Busy        bool              `json:"busy,omitempty"`     // healthy before, with episodes accepted in the last hour
	Accepted    bool              `json:"accepted,omitempty"` // an episode was accepted since it began
	Strikes     int               `json:"strikes,omitempty"`  // consecutive runs with failing checks
	Waiting     string            `json:"waiting,omitempty"`  // what it waits for, beside time
	Why         string            `json:"why,omitempty"`      // why it is rolled back
}

// Bad is a version that failed here.
type Bad struct {
	wire.RolledBack
	ID string `json:"id"` // empty if the state was lost: any with this binary
}

// State is the durable state of updates.
type State struct {
	V    int               `json:"v"`
	Tag  string            `json:"tag,omitempty"`  // of the last offer, if nothing is left to do about it
	Keys string            `json:"keys,omitempty"` // trusted keys, one a line
	Seen map[string]uint64 `json:"seen,omitempty"` // highest seq by key
	// Good is the last version that passed its trial.
	Good wire.Running `json:"good"`
	// Hand is the highest known seq when a person installed Good. Only a later release
	// replaces Good, or, if the gate rejects Good, the offered one. 0 means that a release
	// installed it.
	Hand  uint64 `json:"hand,omitempty"`
	Trial *Trial `json:"trial,omitempty"`
	Bad   []Bad  `json:"bad,omitempty"`
	// Postponed is the id of a version that was postponed or rolled back for a fault of the
	// machine.
	Postponed string `json:"spared,omitempty"`
	Refused   string `json:"refused,omitempty"`
	// Fetching is the id of the last fetched version, Failures its consecutive failures,
	// and NotBefore the time of the next attempt.
	Fetching  string    `json:"fetching,omitempty"`
	Failures  int       `json:"failures,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
}

// load reads the state. It returns an error while the file cannot be read, for at most
// disk.UnreadFor. Then, and if the file is damaged, it sets the file aside and starts over:
// the machine itself shows everything else, see adopt.
func (u *Updater) load() error {
	s, err := disk.ReadState[State](u.o.FS, u.path(stateFile), maxState)
	if err != nil && !errors.Is(err, disk.ErrDamaged) {
		if since := u.unreadSince(); u.o.Now().Sub(since).Abs() < disk.UnreadFor {
			return fault.Exit(fault.Fix(fmt.Errorf("the update state cannot be read since %s: %w", plain.Time(since), err),
				"journalctl -k   # does the disk fail? after an hour the file is set aside"), fault.TempFail)
		}
	}
	if err != nil {
		u.o.Log.Error("lost the update state; starting over", "err", err, "copy", u.path(stateFile)+disk.Damaged)
		if err := disk.SetAside(u.o.FS, u.path(stateFile)); err != nil {
			return err
		}
	}
	if s.V = 1; s.Seen == nil {
		s.Seen = map[string]uint64{}
	}
	u.s = s
	if !disk.Exists(u.o.FS, u.path(unreadFile)) {
		return nil
	}
	return u.o.FS.Remove(u.path(unreadFile))
}

// unreadSince returns the time of the first run that could not read the state.
func (u *Updater) unreadSince() time.Time {
	now := u.o.Now().UTC()
	b, err := disk.ReadFile(u.o.FS, u.path(unreadFile), disk.Small)
	if since, bad := time.Parse(time.RFC3339, string(b)); err == nil && bad == nil {
		return since
	}
	if err := disk.ReplaceBytes(u.o.FS, u.path(unreadFile), 0o600, now.AppendFormat(nil, time.RFC3339)); err != nil {
		u.o.Log.Warn("cannot write", "path", u.path(unreadFile), "err", err)
	}
	return now
}

// save makes the state durable. On a full disk it deletes the ballast, so that a version
// that filled the disk can still be rolled back.
func (u *Updater) save() error {
	b, err := json.MarshalIndent(u.s, "", "  ")
	if err != nil {
		return err
	}
	write := func() error { return disk.ReplaceBytes(u.o.FS, u.path(stateFile), 0o600, append(b, '\n')) }
	if err = write(); errors.Is(err, syscall.ENOSPC) {
		u.o.Log.Warn("the disk is full; using the space reserved for a rollback")
		u.drop()
		err = write()
	}
	if err != nil {
		return fmt.Errorf("save the update state: %w", err)
	}
	return nil
}

// drop frees the space reserved for a rollback.
func (u *Updater) drop() {
	_ = u.o.FS.Remove(u.path(ballastFile)) // may not exist
}

// keepBallast reserves space for a rollback, unless the disk is full already.
func (u *Updater) keepBallast() {
	if fi, err := u.o.FS.Lstat(u.path(ballastFile)); err == nil && fi.Size() == ballastSize {
		return
	}
	if err := disk.ReplaceBytes(u.o.FS, u.path(ballastFile), 0o600, make([]byte, ballastSize)); err != nil {
		u.o.Log.Warn("cannot reserve space for a rollback", "err", err)
	}
}

// public returns the public update status.
func (s *State) public(c config.Update) *wire.Update {
	p := &wire.Update{Good: s.Good, Refused: s.Refused}
	if t := s.Trial; t != nil {
		p.Trial = &wire.Trial{
			Running: t.Running, Phase: string(t.Phase), Since: t.Began.UTC(), Waiting: t.Waiting,
			Observed: t.Observed.D().Seconds(), Needs: c.Trial.D().Seconds(),
		}
	}
	for _, b := range s.Bad[max(0, len(s.Bad)-wire.MaxRolledBack):] {
		p.RolledBack = append(p.RolledBack, b.RolledBack)
	}
	return p
}

// publish writes the public file if its content changed.
func (u *Updater) publish() error {
	b, err := json.MarshalIndent(u.s.public(u.o.Config), "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	path := u.path(PublicFile)
	if have, err := disk.ReadFile(u.o.FS, path, maxState); err == nil && string(have) == string(b) {
		return nil
	}
	if err := disk.ReplaceBytes(u.o.FS, path, 0o644, b); err != nil {
		return fmt.Errorf("publish the update status: %w", err)
	}
	return nil
}

// ReadPublic reads the public file below dir. It returns nil if there is none.
func ReadPublic(fsys disk.FS, dir string) (*wire.Update, error) {
	path := dir + "/" + PublicFile
	b, err := disk.ReadFile(fsys, path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var p wire.Update
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &p, nil
}

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
	"cis490/internal/ident"
	"cis490/internal/release"
	"cis490/internal/wire"
)

// The files below /opt/cis490 that are an update's own.
const (
	stateFile   = "state/autoupdate.json" // root's: State
	ballastFile = "state/ballast"         // given up when the disk is full
	fetchDir    = "state/fetch"           // downloads that are not verified yet
	logDir      = "state/rolled-back"     // what failed versions said
	PublicFile  = "autoupdate.json"       // everybody's: wire.Update
	binaryName  = "cis490"
)

// Bounds of what is kept.
const (
	maxState    = 1 << 20
	maxBad      = 32
	ballastSize = 1 << 20
)

// Phase is where a trial stands.
type Phase string

// The phases of a trial.
const (
	Applying    Phase = "applying"     // current is swapped, the machine converges
	Watching    Phase = "observing"    // it runs and is judged
	RollingBack Phase = "rolling-back" // it failed; good comes back
)

// Target is a release as it is for this machine.
type Target struct {
	wire.Running
	Commit     ident.Commit  `json:"commit,omitempty"`
	Size       int64         `json:"size"`
	Experiment *release.Blob `json:"experiment,omitempty"`
	Folder     string        `json:"folder"` // below versions
}

// id names what a version's folder holds.
func (t Target) id() string {
	if t.Experiment == nil {
		return string(t.Digest)
	}
	return string(t.Digest) + "+" + string(t.Experiment.Digest)
}

// Trial is a version that is not proven here yet.
type Trial struct {
	Target
	From     string    `json:"from"` // the folder to go back to
	Phase    Phase     `json:"phase"`
	Began    time.Time `json:"began"`
	Attempts int       `json:"attempts"` // to apply it
	// Observed is the uptime that was seen; Looked and Boot are when and in which
	// boot of the machine it was looked at last.
	Observed config.Duration `json:"observed"`
	Looked   time.Time       `json:"looked"`
	// Unreached is what was observed when the receiver was last out of reach.
	Unreached config.Duration   `json:"unreached,omitempty"`
	Boot      string            `json:"boot"`
	Restarts  map[string]uint32 `json:"restarts,omitempty"` // of daemons, that are not the trial's
	Baseline  []string          `json:"baseline,omitempty"` // checks that failed before already
	Down      []string          `json:"down,omitempty"`     // daemons that did not run before either, or could not start
	Ails      string            `json:"ails,omitempty"`     // how the install of the version before failed, right before
	Spared    bool              `json:"spared,omitempty"`   // it is rolled back for a fault of the machine
	Busy      bool              `json:"busy,omitempty"`     // it was well, and episodes were accepted in the hour before
	Accepted  bool              `json:"accepted,omitempty"` // an episode was, since it began
	Strikes   int               `json:"strikes,omitempty"`  // consecutive looks with failing checks
	Waiting   string            `json:"waiting,omitempty"`  // for what, beside time
	Why       string            `json:"why,omitempty"`      // it is rolled back
}

// Bad is a version that failed here.
type Bad struct {
	wire.RolledBack
	ID string `json:"id"` // empty, where the state was lost: any with this binary
}

// State is what an update remembers.
type State struct {
	V    int               `json:"v"`
	Tag  string            `json:"tag,omitempty"`  // of the offer that was looked at last, if nothing is left to do about it
	Keys string            `json:"keys,omitempty"` // who is believed, one a line
	Seen map[string]uint64 `json:"seen,omitempty"` // highest seq by key
	// Good is what proved itself last.
	Good wire.Running `json:"good"`
	// Hand is the highest seq that was known when a person brought Good; only a
	// later release replaces it, or, where the gate refuses it, the offered one. 0: a
	// release brought it.
	Hand  uint64 `json:"hand,omitempty"`
	Trial *Trial `json:"trial,omitempty"`
	Bad   []Bad  `json:"bad,omitempty"`
	// Spared is what was not tried, or rolled back, for a fault of the machine.
	Spared  string `json:"spared,omitempty"`
	Refused string `json:"refused,omitempty"`
	// Fetching is what was fetched last, Failures how often in a row that failed, and
	// NotBefore when the next try is due.
	Fetching  string    `json:"fetching,omitempty"`
	Failures  int       `json:"failures,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
}

func load(fsys disk.FS, path string) (State, error) {
	empty := State{V: 1, Seen: map[string]uint64{}}
	b, err := disk.ReadFile(fsys, path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	s := empty
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return empty, fmt.Errorf("read %s: %w", path, err)
	}
	if s.Seen == nil {
		s.Seen = map[string]uint64{}
	}
	return s, nil
}

// save makes the state durable. On a full disk it gives up the ballast, so that
// a version which filled it can still be rolled back.
func (u *Updater) save() error {
	b, err := json.MarshalIndent(u.s, "", "  ")
	if err != nil {
		return err
	}
	write := func() error { return disk.ReplaceBytes(u.o.FS, u.path(stateFile), 0o600, append(b, '\n')) }
	if err = write(); errors.Is(err, syscall.ENOSPC) {
		u.o.Log.Warn("the disk is full, the space kept for going back is given up")
		u.drop()
		err = write()
	}
	if err != nil {
		return fmt.Errorf("remember where the update stands: %w", err)
	}
	return nil
}

// drop frees the space that was kept for going back.
func (u *Updater) drop() {
	_ = u.o.FS.Remove(u.path(ballastFile)) // there may be none
}

// keepBallast keeps some space for going back; a disk that is full already gets
// none.
func (u *Updater) keepBallast() {
	if fi, err := u.o.FS.Lstat(u.path(ballastFile)); err == nil && fi.Size() == ballastSize {
		return
	}
	if err := disk.ReplaceBytes(u.o.FS, u.path(ballastFile), 0o600, make([]byte, ballastSize)); err != nil {
		u.o.Log.Warn("no space is kept for going back", "err", err)
	}
}

// public is what everybody may know.
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

// publish writes the public file if what it says has changed.
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
		return fmt.Errorf("tell where the update stands: %w", err)
	}
	return nil
}

// ReadPublic reads the public file below dir; nil where there is none.
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

package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// How long a program that is run here may take. A version that hangs has failed.
const (
	testLimit    = time.Minute
	installLimit = 10 * time.Minute
	doctorLimit  = 2 * time.Minute
	reportLimit  = time.Minute
)

// own are the checks that are about this machine alone: what they find cannot be
// the network's or the receiver's doing.
const own = " config.valid version.stamp units.enabled units.active timers.scheduled files.owner files.secret users.exist" +
	" disk.reserve disk.inodes experiment.valid receiver.ready gate.loaded ledger.index ledger.alerts ca.key operator.token "

// System is the Machine of a real one: systemd, and the binaries' own commands.
type System struct {
	Roles   []string // as install takes them
	Daemons []string // services of these roles
	Lock    *os.File // that installs share; handed to the ones started here
	// Queue returns what waits to be shipped; nil on a machine that ships nothing.
	Queue func() (wire.Queue, error)
	// Reach tells whether the receiver takes this host's credentials, as asked by
	// this, the proven version; nil on a machine that ships nothing.
	Reach func(ctx context.Context) error
}

var _ Machine = (*System)(nil)

// Prepare checks content by its digest and puts it, durably, at target.
func (*System) Prepare(content io.Reader, target string, d ident.Digest) error {
	return prepare(content, target, d)
}

// SelfTest runs a binary that is not used yet and returns what it says it is.
func (s *System) SelfTest(ctx context.Context, binary string) (version.Info, error) {
	var info version.Info
	out, err := s.run(ctx, testLimit, nil, binary, "version", "--json")
	if err == nil {
		err = json.Unmarshal(out, &info)
	}
	if err != nil {
		return info, fmt.Errorf("run it: %w", err)
	}
	return info, nil
}

// Converge runs the binary's own install for each role, under our lock. The exit
// code of an install that fails is the error's.
func (s *System) Converge(ctx context.Context, binary string) error {
	for _, role := range s.Roles {
		// The first extra file is the child's descriptor 3.
		_, err := s.run(ctx, installLimit, []*os.File{s.Lock}, binary, "install", role, "--update", "3")
		if err != nil {
			code := fault.Failed
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == fault.Config {
				code = fault.Config
			}
			return fault.Exit(fmt.Errorf("install %s: %w", role, err), code)
		}
	}
	return nil
}

// Restart restarts the daemons, for when no install can.
func (s *System) Restart(ctx context.Context) error {
	if _, err := s.run(ctx, installLimit, nil, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := s.run(ctx, installLimit, nil, "systemctl", append([]string{"restart"}, s.Daemons...)...)
	return err
}

// Units tells how the daemons are.
func (s *System) Units(ctx context.Context) ([]Daemon, error) {
	units, err := machine.Systemd{}.Units(ctx, s.Daemons...)
	if err != nil {
		return nil, err
	}
	var all []Daemon
	for _, u := range units {
		d := Daemon{
			Name: u.Name, Masked: u.Load == "masked", Restarts: u.Restarts, Since: u.Since,
			Active:   u.Active == "active" || u.Active == "reloading",
			Starting: u.Active == "activating" && u.Sub != "auto-restart",
			Why:      u.Active,
		}
		if u.Result != "" && u.Result != "success" {
			d.Why = fmt.Sprintf("%s, exit status %d", u.Result, u.Code)
		}
		if d.Active {
			d.Why = ""
		}
		all = append(all, d)
	}
	return all, nil
}

// Examine asks the doctor of the running version, and what became of the work.
func (s *System) Examine(ctx context.Context, current string) Findings {
	var f Findings
	f.Failing, f.Err = s.doctor(ctx, current)
	if s.Queue == nil {
		return f
	}
	if q, err := s.Queue(); err == nil {
		f.Waiting, f.Oldest, f.Recording, f.LastShipped = q.Waiting, q.Oldest, q.Recording, q.LastShipped
	}
	f.Reaches = s.Reach != nil && s.Reach(ctx) == nil
	return f
}

func (s *System) doctor(ctx context.Context, current string) ([]string, error) {
	out, err := s.run(ctx, doctorLimit, nil, current, "doctor", "--json")
	if _, bad := errors.AsType[*exec.ExitError](err); err != nil && !bad {
		return nil, err
	}
	var failing []string
	reports := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; reports++ {
		var r check.Report
		jerr := dec.Decode(&r)
		if errors.Is(jerr, io.EOF) {
			break
		}
		if jerr != nil {
			return nil, errors.Join(fmt.Errorf("read what doctor found: %w", jerr), err)
		}
		for _, row := range r.Checks {
			if row.Status == check.Fail && strings.Contains(own, " "+row.ID+" ") {
				failing = append(failing, row.ID)
			}
		}
	}
	if reports == 0 {
		return nil, errors.Join(errors.New("doctor says nothing"), err)
	}
	return failing, nil
}

// Boot tells one boot from another.
func (*System) Boot() string {
	b, err := disk.ReadFile(disk.OS{}, "/proc/sys/kernel/random/boot_id", 64)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Logs returns what the units said since a moment, as far as there is a journal.
func (s *System) Logs(ctx context.Context, since time.Time) []byte {
	out, err := s.run(ctx, reportLimit, nil, "journalctl", "--quiet", "--no-pager", "--output=short-precise", "--lines=5000",
		fmt.Sprintf("--since=@%d", since.Unix()), "--unit=cis490-*")
	if err != nil {
		out = append(out, "# "+err.Error()+"\n"...)
	}
	return out
}

// Report pings the receiver and has a snapshot sent. That it cannot be reached is
// no fault of an update: the shipper tells it later.
func (s *System) Report(ctx context.Context, good string) {
	if s.Queue == nil {
		return
	}
	_, _ = s.run(ctx, reportLimit, nil, good, "ship", "--ping")
	_, _ = s.run(ctx, reportLimit, nil, "systemctl", "start", "--no-block", "cis490-doctor-check.service")
}

// run runs a program to its end or its limit, with nothing of our environment but
// the path, and returns its output, of more than maxSaid its end. Of a failure the
// last it said is told.
func (*System) run(ctx context.Context, limit time.Duration, files []*os.File, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said tail
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.ExtraFiles = files
	cmd.Dir = "/"
	// Whatever it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("it did not end within %s", limit)
	}
	if err != nil {
		text := strings.TrimSpace(string(said))
		err = fmt.Errorf("%w: %s", err, text[max(0, len(text)-300):])
	}
	return out, err
}

// maxSaid bounds what is kept of a program's output, in bytes: a build that is broken
// may write without end.
const maxSaid = 1 << 20

// tail keeps the end of what is written to it: the last maxSaid bytes, and up to as many
// before them, so that they are moved once for each maxSaid bytes and in place.
type tail []byte

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	if len(*t)+len(p) > 2*maxSaid {
		*t = append((*t)[:0], (*t)[max(0, len(*t)-maxSaid):]...)
	}
	*t = append(*t, p...)
	return len(p), nil
}

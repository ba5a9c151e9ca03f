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
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Time limits of commands. A version that hangs has failed.
const (
	testLimit    = time.Minute
	installLimit = 10 * time.Minute
	doctorLimit  = 2 * time.Minute
	reportLimit  = time.Minute
)

// own lists the checks of the machine itself, which neither the network nor the receiver
// can fail.
const own = " config.valid version.stamp units.enabled units.active timers.scheduled files.owner files.secret users.exist" +
	" disk.reserve disk.inodes experiment.valid receiver.ready gate.loaded ledger.index ledger.alerts ca.key operator.token "

// System is the Machine of a real machine: systemd, and the binaries' own commands.
type System struct {
	Roles   []string // names of roles for install
	Daemons []string // services of these roles
	BootID  string   // empty: unknown
	Lock    *os.File // the lock of installs, inherited by child installs
	// Queue returns the shipper's queue; nil on a machine that ships nothing.
	Queue func() (wire.Queue, error)
	// Reach returns nil if the receiver accepts this host's credentials, used by the good
	// version; nil on a machine that ships nothing.
	Reach func(ctx context.Context) error
}

var _ Machine = (*System)(nil)

// Prepare verifies content by its digest and writes it, durably, to target.
func (*System) Prepare(content io.Reader, target string, d ident.Digest) error {
	return prepare(content, target, d)
}

// SelfTest runs an unused binary and returns the version that it reports.
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

// Converge runs the binary's own install for each role, under the shared lock, and returns
// what it printed as changed. Its error has the install's exit code.
func (s *System) Converge(ctx context.Context, binary string) (changes []string, err error) {
	for _, role := range s.Roles {
		// The first extra file is descriptor 3 in the child.
		out, err := s.run(ctx, installLimit, []*os.File{s.Lock}, binary, "install", role, "--update", "3")
		if err != nil {
			code := fault.Failed
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == fault.Config {
				code = fault.Config
			}
			return changes, fault.Exit(fmt.Errorf("install %s: %w", role, err), code)
		}
		for line := range strings.Lines(string(out)) {
			if change, ok := strings.CutPrefix(strings.TrimSpace(line), "changed  "); ok {
				changes = append(changes, check.Sanitize(change, 300))
			}
		}
	}
	return changes, nil
}

// Restart restarts the daemons when install fails.
func (s *System) Restart(ctx context.Context) error {
	if _, err := s.run(ctx, installLimit, nil, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := s.run(ctx, installLimit, nil, "systemctl", append([]string{"restart"}, s.Daemons...)...)
	return err
}

// Units returns the state of the daemons.
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

// Examine runs the doctor of the running version, and reads the queue.
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
			return nil, errors.Join(fmt.Errorf("parse doctor's report: %w", jerr), err)
		}
		for _, row := range r.Checks {
			if row.Status == check.Fail && strings.Contains(own, " "+row.ID+" ") {
				failing = append(failing, row.ID)
			}
		}
	}
	if reports == 0 {
		return nil, errors.Join(errors.New("doctor printed no report"), err)
	}
	return failing, nil
}

// Boot returns the boot id.
func (s *System) Boot() string { return s.BootID }

// Logs returns the units' logs since a time, as far as there is a journal.
func (s *System) Logs(ctx context.Context, since time.Time) []byte {
	out, err := s.run(ctx, reportLimit, nil, "journalctl", "--quiet", "--no-pager", "--output=short-precise", "--lines=5000",
		fmt.Sprintf("--since=@%d", since.Unix()), "--unit=cis490-*")
	if err != nil {
		out = append(out, "# "+err.Error()+"\n"...)
	}
	return out
}

// Report pings the receiver and sends a health report. A failure does not matter here: the
// shipper reports later.
func (s *System) Report(ctx context.Context, good string) {
	if s.Queue == nil {
		return
	}
	_, _ = s.run(ctx, reportLimit, nil, good, "ship", "--ping")
	_, _ = s.run(ctx, reportLimit, nil, "systemctl", "start", "--no-block", "cis490-doctor-check.service")
}

// run runs a command until it ends or reaches its limit, with only PATH of the environment.
// It returns the output, truncated to its end of maxSaid bytes. The error includes the end
// of stderr.
func (*System) run(ctx context.Context, limit time.Duration, files []*os.File, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said tail
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.ExtraFiles = files
	cmd.Dir = "/"
	// Kill the whole process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("it did not finish within %s", limit)
	}
	if err != nil {
		text := strings.TrimSpace(string(said))
		err = fmt.Errorf("%w: %s", err, text[max(0, len(text)-300):])
	}
	return out, err
}

// maxSaid bounds the stored output of a command, in bytes, because a broken build may write
// without end.
const maxSaid = 1 << 20

// tail keeps the end of its input: the last maxSaid bytes, and up to as many before them,
// so that bytes are moved rarely and in place.
type tail []byte

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	if len(*t)+len(p) > 2*maxSaid {
		*t = append((*t)[:0], (*t)[max(0, len(*t)-maxSaid):]...)
	}
	*t = append(*t, p...)
	return len(p), nil
}

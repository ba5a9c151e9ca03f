// Package install converges a machine on a role: users, folders, binary, config,
// units, enrolment, running services. It is the only code that changes a machine
// outside the program's own data.
//
// A plan is a list of steps, each of which finds what differs from what is wanted
// and can mend exactly that; so a second run changes nothing, a dry run is the
// same walk without mending, and an install that was cut off at any point is
// finished by the next one. Files are replaced as a whole or not at all. What is
// the site's stays the site's: an existing config is never edited, drop-ins and
// masked units are left alone, no folder is changed below the ones the plan
// names, and no symlink is followed on the way to them.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kardianos/service"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Where things are; config files may name other folders for data.
const (
	optDir     = "/opt/cis490"
	stateDir   = optDir + "/state"
	command    = "/usr/local/bin/cis490"
	configDir  = "/etc/cis490"
	unitDir    = "/etc/systemd/system"
	nameOfUs   = "cis490"     // user and group; also the binary's file name
	recorder   = "cis490-rec" // user that runs workloads
	authority  = "cis490-ca"  // user that holds the CA key
	configMode = 0o644
)

// Options say what to install and where.
type Options struct {
	Role Role
	// Root is the machine's root folder; below any other than "" or "/" files are
	// written as for an image: no owners, users or services, and no need for root.
	Root   string
	Binary string // path of the binary to install: the running one
	Build  version.Info
	// Token is the join token of a lab host as it was pasted, or "".
	Token string
	// PublicURL is the receiver's address; needed while there is no config.
	PublicURL string
	// CACert and CAKey are files with a CA that the site brings along; empty: the
	// authority makes one at its first start.
	CACert, CAKey string
	NoStart       bool // enable services, but do not start or restart them
	Out           io.Writer
	Manager       Manager // nil: services are not touched
	FS            disk.FS // nil: the machine's
	Now           func() time.Time
	// Update says that an update runs this: unknown config keys are told, not
	// refused, as the config may be of a newer version; so is a daemon that does not
	// run, as the update judges that; and there is no summary.
	Update bool
	// Held is the lock that the caller holds and hands over; nil takes it.
	Held *os.File
	// Summary ends an install that changed the machine itself, such as a doctor
	// run; nil is none. Its findings are not the install's failure.
	Summary func(context.Context, io.Writer) error
}

// Plan is what one install does.
type Plan struct {
	Options
	lab       config.LabHost
	rx        config.Receiver
	token     wire.Token
	steps     []step
	writes    map[string][]byte // config content that is to be written, by path
	touched   map[string]bool   // units whose file this run changes
	newBinary bool              // this run changes what current is
}

// New makes the plan. It reads the config, so that nothing is changed on a
// machine that could not be brought to an end; it changes nothing.
func New(o Options) (*Plan, error) {
	if o.Root == "/" {
		o.Root = ""
	}
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Plan{Options: o, writes: map[string][]byte{}, touched: map[string]bool{}}
	if !validVersion(o.Build.Version) {
		return nil, fmt.Errorf("version %q of this binary is not fit for a folder's name", o.Build.Version)
	}
	if o.Token != "" {
		t, err := wire.ParseToken(o.Token)
		if err != nil {
			return nil, fault.Exit(fault.Fix(err, "sudo cis490 token create HOST   # on the receiver: prints a new one"), fault.Usage)
		}
		p.token = t
	}
	var err error
	switch o.Role {
	case LabHost:
		p.steps, err = p.labHost()
	case Receiver:
		p.steps, err = p.receiver()
	default:
		err = fmt.Errorf("unknown role %q", o.Role)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Supported refuses a machine that is not run by systemd.
func Supported() error {
	if p := service.Platform(); p != platform {
		return fault.Fix(fmt.Errorf("this machine is run by %q, services need systemd", p),
			"cis490 demo   # the whole system, without services, on any Linux")
	}
	return nil
}

// Apply brings the machine to what is wanted, and prints a line per step. It
// stops at the first step that fails: later ones build on it.
func (p *Plan) Apply(ctx context.Context) error {
	if !p.image() && os.Geteuid() != 0 {
		return fault.Exit(fault.Fix(errors.New("install needs root"), "run it again with sudo"), fault.NoPerm)
	}
	if err := p.tried(); err != nil {
		return err
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	changed := 0
	for _, s := range p.steps {
		n, err := p.apply(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		changed += n
	}
	if changed == 0 {
		p.say("%s: in sync, nothing changed\n", p.Role)
	} else {
		p.say("%s: %d changed\n", p.Role, changed)
	}
	if !p.image() && !p.Update {
		p.sudoFinds(ctx)
	}
	if p.Summary == nil || p.image() || p.NoStart || p.Update {
		return nil
	}
	return p.Summary(ctx, p.Out)
}

func (p *Plan) lock(ctx context.Context) (unlock func(), err error) {
	if p.Held != nil {
		return adopt(p.Held, p.FS, p.Root)
	}
	return Lock(ctx, p.FS, p.Root)
}

// Drift prints what differs from what is wanted and returns how much does.
func (p *Plan) Drift(ctx context.Context) (int, error) {
	return p.look(ctx, func(s step, c Change) { p.say("drift    %s: %s\n", s.name, c.What) })
}

// DryRun prints what Apply would do: each change, the difference of each text
// file and each command. It returns the number of changes.
func (p *Plan) DryRun(ctx context.Context) (int, error) {
	return p.look(ctx, func(s step, c Change) {
		p.say("change   %s: %s\n%s", s.name, c.What, c.Diff)
		for _, cmd := range c.Commands {
			p.say("         $ %s\n", cmd)
		}
	})
}

// image tells that files are written for another machine.
func (p *Plan) image() bool { return p.Root != "" }

// at returns where a path of the machine is.
func (p *Plan) at(path string) string { return filepath.Join(p.Root, path) }

// say prints a part of the result; that nobody reads it is not an error.
func (p *Plan) say(format string, args ...any) {
	if p.Out != nil {
		_, _ = fmt.Fprintf(p.Out, format, args...)
	}
}

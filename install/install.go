// Package install brings a machine to the state of a role: users, folders, binary, config,
// units, enrollment, running services. It is the only code that changes a machine outside
// the program's own data.
//
// A plan is a list of steps. Each step finds differences from the wanted state and can fix
// exactly those. So a second run changes nothing, a dry run is the same without the fixes,
// and the next run finishes an interrupted install. Files are replaced as a whole or not at
// all. What belongs to the site stays: install never edits an existing config, leaves
// drop-ins and masked units alone, changes no folder below the ones in the plan, and
// follows no symlink on the way to them.
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

// Paths; config files may set other data folders.
const (
	optDir     = "/opt/cis490"
	stateDir   = optDir + "/state"
	command    = "/usr/local/bin/cis490"
	configDir  = "/etc/cis490"
	unitDir    = "/etc/systemd/system"
	nameOfUs   = "cis490"     // user, group and binary name
	recorder   = "cis490-rec" // user that runs workloads
	authority  = "cis490-ca"  // user that holds the CA key
	operators  = "cis490-ops" // group of people who may read the state of the fleet
	configMode = 0o644
)

// Options configure an install.
type Options struct {
	Role Role
	// Root is the machine's root folder. With any other than "" or "/", files are written
	// as for an image: without owners, users and services, and without root privileges.
	Name   string // of a new host, if the token names none; empty: the machine's own
	Root   string
	Binary string // path of the running binary, which is installed
	Build  version.Info
	// Token is the join token of a lab host as pasted, or "".
	Token string
	// Invitation makes this machine one more receiver; nil: none was given.
	Invitation *Invitation
	// Fetch runs the installed program, which gets the server certificate; nil: it is run.
	Fetch func(ctx context.Context, args []string) error
	// PublicURL is the receiver's address, required while there is no config.
	PublicURL string
	// CACert and CAKey are files with the site's own CA. If empty, the authority makes one
	// at its first start.
	CACert, CAKey string
	Verbose       bool // print each change in a line of its own, and the steps without changes
	NoStart       bool // enable services, but do not start or restart them
	Out           io.Writer
	Manager       Manager // nil: do not change services
	FS            disk.FS // nil: the machine's
	Now           func() time.Time
	// Update means that an update runs this install. Unknown config keys are then warnings,
	// because the config may be of a newer version. The trial judges a daemon that does not
	// run, and no summary is printed.
	Update bool
	// Held is the lock, if the caller holds it; nil means to take it.
	Held *os.File
	// Lock takes the lock of a simulated machine; nil means Lock below Root.
	Lock func(context.Context) (unlock func(), err error)
	// Summary runs after a changing install, such as a doctor run; nil means none. Its
	// findings do not fail the install.
	Summary func(context.Context, io.Writer) error
}

// Plan is the list of steps of an install.
type Plan struct {
	Options
	lab       config.LabHost
	rx        config.Receiver
	token     wire.Token
	steps     []step
	writes    map[string][]byte // config files to write, by path
	touched   map[string]bool   // units whose files this run changes
	newBinary bool              // this run changes current
	failed    []error           // of steps on which no other depends
}

// New makes a plan. It reads the config first, so that an install that cannot be finished
// changes nothing.
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
	if p.Fetch == nil {
		p.Fetch = p.runInstalled
	}
	if !validVersion(o.Build.Version) {
		return nil, fmt.Errorf("version %q of this binary is not a valid folder name", o.Build.Version)
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

// Supported returns an error on a machine without systemd.
func Supported() error {
	if service.Platform() != platform {
		return fault.Fix(errors.New("the services need systemd, and it does not run on this machine"),
			"cis490 demo   # runs the whole system without services, on any Linux")
	}
	return nil
}

// Apply executes the plan and prints a line per step that changed something. It stops at the first step that
// fails, because later steps depend on it.
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
	if len(p.failed) > 0 {
		return errors.Join(p.failed...)
	}
	if p.Summary == nil || p.image() || p.NoStart || p.Update {
		return nil
	}
	return p.Summary(ctx, p.Out)
}

func (p *Plan) lock(ctx context.Context) (unlock func(), err error) {
	switch {
	case p.Held != nil:
		return adopt(p.Held, p.FS, p.Root)
	case p.Lock != nil:
		return p.Lock(ctx)
	}
	return Lock(ctx, p.FS, p.Root)
}

// Drift prints the differences from the wanted state and returns their number.
func (p *Plan) Drift(ctx context.Context) (int, error) {
	return p.look(ctx, func(s step, c Change) { p.say("drift    %s: %s\n", s.name, c.What) })
}

// DryRun prints what Apply would do: each change, the diff of each text file and each
// command. It returns the number of changes.
func (p *Plan) DryRun(ctx context.Context) (int, error) {
	return p.look(ctx, func(s step, c Change) {
		p.say("change   %s: %s\n%s", s.name, c.What, c.Diff)
		for _, cmd := range c.Commands {
			p.say("         $ %s\n", cmd)
		}
	})
}

// image reports whether files are written for another machine.
func (p *Plan) image() bool { return p.Root != "" }

// at returns a path below Root.
func (p *Plan) at(path string) string { return filepath.Join(p.Root, path) }

// say prints a part of the result. A write error does not matter.
func (p *Plan) say(format string, args ...any) {
	if p.Out != nil {
		_, _ = fmt.Fprintf(p.Out, format, args...)
	}
}

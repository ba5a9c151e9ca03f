package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cis490/internal/fault"
)

// Change is one difference between the machine and what is wanted.
type Change struct {
	What     string   // what differs, and what is done about it
	Diff     []byte   // for a text file without secrets, the unified diff
	Commands []string // programs that are run
	// apply mends it; nil is told, not mended.
	apply func(context.Context) error
}

// step is one thing that a machine of a role has. Check finds what differs and
// changes nothing; each difference carries what mends it. Checks of later steps
// see what earlier ones mended, but in a dry run they do not.
type step struct {
	name  string
	check func(context.Context) ([]Change, error)
}

// note is a fact to tell that is no drift.
func note(what string) Change { return Change{What: what} }

func (p *Plan) apply(ctx context.Context, s step) (changed int, err error) {
	changes, err := s.check(ctx)
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, c := range changes {
		if c.apply == nil {
			p.say("note     %s: %s\n", s.name, c.What)
			continue
		}
		err := c.apply(ctx)
		if _, ok := errors.AsType[judgedLater](err); ok {
			p.say("note     %s: %v\n", s.name, err)
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		changed++
		p.say("changed  %s: %s\n", s.name, c.What)
	}
	if changed == 0 && len(failed) == 0 {
		p.say("ok       %s\n", s.name)
	}
	return changed, errors.Join(failed...)
}

// look walks the steps without changing anything. What cannot be judged is told,
// and the walk goes on; if it is only for want of rights and nothing else
// differs, the answer is not known.
func (p *Plan) look(ctx context.Context, show func(step, Change)) (drift int, err error) {
	var unseen error
	for _, s := range p.steps {
		changes, err := s.check(ctx)
		switch {
		case errors.Is(err, fs.ErrPermission):
			p.say("unknown  %s: %v\n", s.name, err)
			unseen = err
			continue
		case err != nil:
			p.say("broken   %s: %v\n", s.name, err)
			drift++
			continue
		}
		same := true
		for _, c := range changes {
			if c.apply == nil {
				p.say("note     %s: %s\n", s.name, c.What)
				continue
			}
			same = false
			drift++
			show(s, c)
		}
		if same {
			p.say("ok       %s\n", s.name)
		}
	}
	if drift == 0 && unseen != nil {
		return 0, fault.Exit(fault.Fix(fmt.Errorf("not everything can be seen: %w", unseen), "run it again with sudo"), fault.NoPerm)
	}
	return drift, nil
}

// kept is one thing in the file system that has a wanted state.
type kept interface {
	// check returns what differs, or nil.
	check(p *Plan) (*Change, error)
}

// keep is a step over things in the file system.
func (p *Plan) keep(name string, things ...kept) step {
	return step{name, func(context.Context) ([]Change, error) {
		var changes []Change
		for _, t := range things {
			c, err := t.check(p)
			if err != nil {
				return changes, err
			}
			if c != nil {
				changes = append(changes, *c)
			}
		}
		return changes, nil
	}}
}

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"cis490/internal/fault"
)

// Change is a difference between the machine and the wanted state.
type Change struct {
	What string // the difference and the fix
	// Done is what the fix does, in the past tense, Object to what, and Was what it found:
	// "started", "cis490-shipper.service", "was not running".
	Done, Object, Was string

	Diff     []byte   // unified diff of a text file without secrets
	Commands []string // commands that the fix runs
	// apply fixes the difference; nil means that it is only printed.
	apply func(context.Context) error
}

// step is a part of the wanted state. check finds differences and changes nothing; each
// Change contains its fix. Later checks see earlier fixes, but not in a dry run.
type step struct {
	name  string
	check func(context.Context) ([]Change, error)
}

// note is a fact to print that is not a difference.
func note(what string) Change { return Change{What: what} }

func (p *Plan) apply(ctx context.Context, s step) (int, error) {
	changes, err := s.check(ctx)
	if err != nil {
		return 0, err
	}
	var failed []error
	var done []Change
	for _, c := range changes {
		if c.apply == nil {
			p.say("note     %s: %s\n", s.name, c.What)
			continue
		}
		err := c.apply(ctx)
		if _, ok := errors.AsType[noted](err); ok {
			p.say("note     %s: %v\n", s.name, err)
			continue
		}
		if late, ok := errors.AsType[atTheEnd](err); ok {
			p.failed = append(p.failed, fmt.Errorf("%s: %w", s.name, late.error))
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		done = append(done, c)
	}
	switch {
	case p.Verbose || p.Update:
		for _, c := range done {
			p.say("changed  %s: %s\n", s.name, c.detail())
		}
		if len(done) == 0 && len(failed) == 0 {
			p.say("ok       %s\n", s.name)
		}
	case len(done) > 0:
		p.say("%-15s %s\n", s.name, summarize(done))
	}
	return len(done), errors.Join(failed...)
}

// detail describes an applied change.
func (c Change) detail() string {
	if c.Was != "" {
		return c.Done + " " + c.Object + ", which " + c.Was
	}
	return c.Done + " " + c.Object
}

// summarize describes the applied changes of a step in one line, such as "created a, b and 5
// more; replaced c".
func summarize(done []Change) string {
	var verbs, parts []string
	objects := map[string][]string{}
	for _, c := range done {
		if !slices.Contains(verbs, c.Done) {
			verbs = append(verbs, c.Done)
		}
		objects[c.Done] = append(objects[c.Done], c.Object)
	}
	for _, verb := range verbs {
		all, more := objects[verb], ""
		if n := len(all); n > 4 {
			all, more = all[:2], fmt.Sprintf(" and %d more", n-2)
		}
		parts = append(parts, verb+" "+strings.Join(all, ", ")+more)
	}
	return strings.Join(parts, "; ")
}

// noted is an error that does not fail the install.
type noted struct{ error }

// atTheEnd is an error that fails the install after the remaining steps, which do not depend
// on what failed.
type atTheEnd struct{ error }

// look runs the checks of all steps without their fixes. It prints errors and continues. If
// checks failed only for lack of permission and nothing else differs, it returns an error,
// because the result is unknown.
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
		return 0, fault.Exit(fault.Fix(fmt.Errorf("not everything is readable: %w", unseen), "run it again with sudo"), fault.NoPerm)
	}
	return drift, nil
}

// resource is something in the file system with a wanted state.
type resource interface {
	// check returns the difference, or nil.
	check(p *Plan) (*Change, error)
}

// ensure is a step of resources.
func (p *Plan) ensure(name string, things ...resource) step {
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

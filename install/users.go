package install

import (
	"context"
	"fmt"
	"os/exec"
	"os/user"
	"slices"
	"strings"

	"cis490/internal/fault"
)

// users creates groups, and a system user and a group for each name. Existing ones are not
// changed.
func (p *Plan) users(groups []string, names ...string) step {
	return step{"users", func(context.Context) ([]Change, error) {
		var changes []Change
		for _, name := range slices.Concat(groups, names) {
			if !groupExists(name) {
				changes = append(changes, run("group "+name, "groupadd", "--system", name))
			}
		}
		for _, name := range names {
			if _, err := user.Lookup(name); err != nil {
				changes = append(changes, run("user "+name, "useradd", "--system", "--gid", name,
					"--home-dir", "/nonexistent", "--no-create-home", "--shell", "/usr/sbin/nologin", name))
			}
		}
		return changes, nil
	}}
}

// groupExists reports whether this machine has a group.
func groupExists(name string) bool {
	_, err := user.LookupGroup(name)
	return err == nil
}

// run is the creation of something that is missing, by a system command.
func run(object, name string, args ...string) Change {
	return Change{
		What: object + " is missing: add it", Done: "created", Object: object,
		Commands: []string{name + " " + strings.Join(args, " ")},
		apply:    func(ctx context.Context) error { return execute(ctx, name, args...) },
	}
}

// execute runs a command; its error includes the output. It also searches the
// administration directories, which su without - leaves out of PATH.
func execute(ctx context.Context, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		line := name + " " + strings.Join(args, " ")
		return fault.Fix(fmt.Errorf("run %s: %w: %s", line, err, strings.TrimSpace(string(out))), "sudo "+line+"   # prints the error")
	}
	return nil
}

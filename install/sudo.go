package install

import (
	"context"
	"os/exec"
	"path/filepath"
)

// sudoFinds notes if sudo does not look for programs where this one is: by its default on
// RHEL, for example. Then every command that is printed with sudo says "command not found".
func (p *Plan) sudoFinds(ctx context.Context) {
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
		return // there is none, or root may not use it
	}
	if exec.CommandContext(ctx, "sudo", "-n", "sh", "-c", "command -v "+nameOfUs).Run() == nil {
		return
	}
	p.say("note     sudo does not look in %s: type sudo %s, or have sudo look there:\n"+
		"         echo 'Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"' |"+
		" sudo tee /etc/sudoers.d/cis490\n",
		filepath.Dir(command), command)
}

package install

import (
	"context"
	"os/exec"
	"path/filepath"
)

// sudoFinds prints a note if sudo's secure_path lacks the program's folder, as by default on
// RHEL: every printed command with sudo would fail with "command not found".
func (p *Plan) sudoFinds(ctx context.Context) {
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
		return // sudo is not installed, or root may not use it
	}
	if exec.CommandContext(ctx, "sudo", "-n", "sh", "-c", "command -v "+nameOfUs).Run() == nil {
		return
	}
	p.say("note     sudo does not look in %s: type sudo %s, or have sudo look there:\n"+
		"         echo 'Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"' |"+
		" sudo tee /etc/sudoers.d/cis490\n",
		filepath.Dir(command), command)
}

package commands

import (
	"io"
	"os/exec"
	"syscall"
)

// removeIfKilled starts a process that removes a folder if this process is killed, as by a
// second Ctrl-C. The returned function ends it.
func removeIfKilled(dir string) (forget func(), err error) {
	// The input ends with this process; its children need a moment to end, too.
	cmd := exec.Command("sh", "-c", `read -r _ || { sleep 1; rm -rf "$0"; }`, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C does not reach it
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	return func() {
		_, _ = io.WriteString(in, "done\n") // fails only if the process has ended
		_ = cmd.Wait()
	}, nil
}

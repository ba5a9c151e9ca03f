package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// commandLimit bounds every command, so that one that hangs fails its scenario
// and leaves logs, before the test binary's own timeout ends both.
const commandLimit = 5 * time.Minute

// A Result is what a command inside a host said. Code is its exit code, 128 plus
// the signal's number for one that was killed, as in a shell.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs a shell command as root inside the host and returns its standard
// output without the last newline. The test ends when the command fails.
func (h *Host) Run(command string) string {
	h.lab.tb.Helper()
	return h.RunIn("", command)
}

// RunIn is Run with text on the command's standard input. The text is never shown.
func (h *Host) RunIn(stdin, command string) string {
	h.lab.tb.Helper()
	res := h.try(stdin, command)
	if res.Code != 0 {
		h.lab.tb.Fatalf("lab: run on %s: %s\n%s", h.Name, command, res)
	}
	return strings.TrimSuffix(res.Out, "\n")
}

// Try is Run for a command that may fail.
func (h *Host) Try(command string) Result {
	h.lab.tb.Helper()
	return h.try("", command)
}

// Eventually repeats a shell command until it exits with 0, and returns its
// standard output. When that does not happen within the limit, the test ends with
// what was waited for and what the command said last.
func (h *Host) Eventually(limit time.Duration, what, command string) string {
	h.lab.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last Result
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		res, err := h.command(ctx, nil, "sh", "-c", command)
		if ctx.Err() != nil && last != (Result{}) {
			return false, ctx.Err() // cut short: the answer before says more
		}
		last = res
		return err == nil && res.Code == 0, err
	})
	if err != nil {
		h.lab.tb.Fatalf("lab: wait on %s: %s: %v after %v\n%s\n%s", h.Name, what, err, limit, command, last)
	}
	return strings.TrimSuffix(last.Out, "\n")
}

// Journal returns the host's journal for a unit, over all its boots, or the whole
// journal for "". It can be read while the host is off, too.
func (h *Host) Journal(unit string) string {
	h.lab.tb.Helper()
	text, err := h.journal(unit)
	if err != nil {
		h.lab.tb.Fatalf("lab: read the journal of %s: %v", h.Name, err)
	}
	return text
}

func (h *Host) journal(unit string) (string, error) {
	script := `journalctl --sync 2>/dev/null; exec journalctl --quiet --no-pager --output=short-precise ${1:+--unit="$1"}`
	res, err := h.onDisk(nil, script, unit)
	return res.Out, err
}

// String shows a result in a test's log.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Out, r.Err)
}

func (h *Host) try(stdin, command string) Result {
	h.lab.tb.Helper()
	h.mustBeOn("run on")
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	res, err := h.command(ctx, strings.NewReader(stdin), "sh", "-c", command)
	if err != nil {
		h.lab.tb.Fatalf("lab: run on %s: %s\n%v\n%s", h.Name, command, err, res)
	}
	return res
}

// command runs a program inside the running host, as root, in all its namespaces.
func (h *Host) command(ctx context.Context, stdin io.Reader, argv ...string) (Result, error) {
	if h.machine == nil {
		return Result{}, errOff
	}
	pid, err := h.machine.pid1()
	if err != nil {
		return Result{}, err
	}
	enter := []string{"nsenter", "--target=" + strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"}
	return h.execute(ctx, stdin, append(enter, argv...))
}

// onDisk runs a script on the host's files: inside while the host is on, so that
// it sees the host's own mounts, and on the bare disk while it is off.
func (h *Host) onDisk(stdin io.Reader, script string, args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	argv := append([]string{"sh", "-c", script, "sh"}, args...)
	run := h.command
	if !h.on() {
		run = func(ctx context.Context, stdin io.Reader, argv ...string) (Result, error) {
			return h.execute(ctx, stdin, append([]string{"chroot", h.root()}, argv...))
		}
	}
	res, err := run(ctx, stdin, argv...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("exit code %d: %s", res.Code, strings.TrimSpace(res.Err))
	}
	return res, err
}

// execute runs a program of this machine in a cgroup below the host's. Its output
// goes to files, not pipes: a process it leaves in the background may keep them
// open without holding up the test.
func (h *Host) execute(ctx context.Context, stdin io.Reader, argv []string) (res Result, err error) {
	group, err := h.cgroup()
	if err != nil {
		return Result{}, err
	}
	defer group.Close()
	outputs := make([]*os.File, 2)
	for i := range outputs {
		f, err := os.CreateTemp(h.dir, "output-")
		if err != nil {
			return Result{}, fmt.Errorf("make an output file: %w", err)
		}
		defer f.Close()
		if err := os.Remove(f.Name()); err != nil {
			return Result{}, fmt.Errorf("remove an output file: %w", err)
		}
		outputs[i] = f
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, outputs[0], outputs[1]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	runErr := cmd.Run()
	res = Result{Out: readBack(outputs[0]), Err: readBack(outputs[1])}
	exit, exited := errors.AsType[*exec.ExitError](runErr)
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("stop %s: %w", filepath.Base(argv[0]), ctx.Err())
	case exited:
		res.Code = exitCode(exit)
	case runErr != nil && !errors.Is(runErr, syscall.EPIPE) && !errors.Is(runErr, exec.ErrWaitDelay):
		return res, fmt.Errorf("run %s: %w", filepath.Base(argv[0]), runErr)
	}
	return res, nil
}

func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// readBack reads through the file's own offset-free path, as a process left in the
// background may still be writing.
func readBack(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	if err != nil {
		return fmt.Sprintf("(read output: %v)", err)
	}
	return string(text)
}

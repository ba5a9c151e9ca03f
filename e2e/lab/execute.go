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

// execute runs a program of this machine in the host's cgroup, so that it dies
// with the host. Its output goes to files, not pipes: a process it leaves in the
// background may keep them open without holding up the test.
func (h *Host) execute(ctx context.Context, stdin io.Reader, argv []string) (Result, error) {
	outputs := make([]*os.File, 2)
	for i := range outputs {
		f, err := os.CreateTemp(h.dir, "output-")
		if err != nil {
			return Result{}, fmt.Errorf("make an output file: %w", err)
		}
		defer func() { _ = f.Close() }()
		if err := os.Remove(f.Name()); err != nil {
			return Result{}, fmt.Errorf("remove an output file: %w", err)
		}
		outputs[i] = f
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, outputs[0], outputs[1]
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := h.lab.run.start(h.Name, cmd); err != nil {
		return Result{}, err
	}
	awake := keepAwake(cmd.Process)
	runErr := cmd.Wait()
	awake()
	res := Result{Out: readBack(outputs[0]), Err: readBack(outputs[1])}
	exit, exited := errors.AsType[*exec.ExitError](runErr)
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("stop %s: %w", filepath.Base(argv[0]), ctx.Err())
	case exited:
		res.Code = exitCode(exit)
	case runErr != nil && !errors.Is(runErr, exec.ErrWaitDelay):
		return res, fmt.Errorf("run %s: %w", filepath.Base(argv[0]), runErr)
	}
	return res, nil
}

// keepAwake resumes nsenter until it is told to end. A host that goes down stops
// all processes before it kills them; nsenter then stops too, with its command, but
// nobody resumes it, and the host waits for ever until it has buried the command.
func keepAwake(p *os.Process) (end func()) {
	over := make(chan struct{})
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_ = p.Signal(syscall.SIGCONT)
			case <-over:
				return
			}
		}
	}()
	return func() { close(over) }
}

func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// readBack reads from the start without moving the offset, which a process left in
// the background may share.
func readBack(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	if err != nil {
		return fmt.Sprintf("(read output: %v)", err)
	}
	return string(text)
}

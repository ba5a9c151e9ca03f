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

// command runs a program as root in all namespaces of the running host.
func (h *Host) command(ctx context.Context, stdin io.Reader, argv ...string) (Result, error) {
	if h.machine == nil {
		return Result{}, errOff
	}
	pid, err := h.machine.pid1()
	if err != nil {
		return Result{}, err
	}
	enter := []string{
		"nsenter", "--target=" + strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
		"--wd", "--",
	}
	return h.execute(ctx, stdin, append(enter, argv...))
}

// onDisk runs a script on the host's files. While the host is on, the script runs inside
// and sees the host's mounts; otherwise it sees the disk alone.
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

// execute runs a program of this machine in the host's cgroup, so that it is killed with
// the host. Its output goes to files, not pipes, because background processes may keep
// them open after the program has ended.
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
	stop := keepRunning(cmd.Process)
	runErr := cmd.Wait()
	stop()
	res := Result{Out: readAll(outputs[0]), Err: readAll(outputs[1])}
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

// keepRunning sends SIGCONT to nsenter until stop is called. A host that shuts down stops
// all processes before it kills them. That stops nsenter too, and the host would wait
// forever for the command that nsenter has to reap.
func keepRunning(p *os.Process) (stop func()) {
	ended := make(chan struct{})
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_ = p.Signal(syscall.SIGCONT)
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended) }
}

func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// readAll reads a file from the start. It does not move the offset, which a background
// process may share.
func readAll(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	if err != nil {
		return fmt.Sprintf("(read output: %v)", err)
	}
	return string(text)
}

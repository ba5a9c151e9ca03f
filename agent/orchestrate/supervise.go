package orchestrate

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that a supervisor inherits, beside its control pipe (0) and the
// workload's output (1 and 2).
const (
	fdEvents = 3
	fdStatus = 4
)

// errNoProcess is the error of /proc and kill for an ended process.
const errNoProcess = syscall.ESRCH

const (
	// killFor bounds how long it tries to kill processes.
	killFor = 10 * time.Second
	// orphanGrace is the grace period when the recorder is gone.
	orphanGrace = time.Second
	// oomScore makes the kernel kill a workload before the host's own processes.
	oomScore = "500"
)

// Supervise runs a slot's command in a separate process, adopts every process that the
// command leaves behind, and ends all of them. It is a subreaper, so no process can leave
// its tree by forking or by a new session. When the recorder dies, its control pipe closes
// and the tree ends too.
//
// Control lines on descriptor 0: "go" starts the command, "stop MS" ends the tree with a
// grace period in milliseconds, and so does the end of the pipe. Status lines on descriptor
// 4: "unconfined WHY", "started PID", "exit CODE", "signal NAME", "refused WHY" and, last,
// "done LEFT" with the number of processes that outlived the command.
func Supervise(proc string, argv []string) error {
	if len(argv) == 0 {
		return fmt.Errorf("supervise: no command")
	}
	s := supervisor{tree: newTree(proc), status: os.NewFile(fdStatus, "status"), exits: make(chan struct{}, 1)}
	unix.CloseOnExec(fdStatus) // the workload must not write status lines
	// The service manager signals the whole group, but the recorder decides.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return s.refuse(fmt.Errorf("become subreaper: %w", err))
	}
	// Raising its own score needs no privilege; a failure does not matter.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(oomScore), 0)

	control := control(os.Stdin)
	switch line, ok := <-control; {
	case !ok:
		return nil // the recorder is gone, nothing was started
	case line != "go":
		return s.refuse(fmt.Errorf("control line %q, want go", line))
	}
	if err := s.start(argv); err != nil {
		return s.refuse(err)
	}
	grace := orphanGrace
	if line, ok := <-control; ok {
		if ms, err := strconv.Atoi(strings.TrimPrefix(line, "stop ")); err == nil {
			grace = time.Duration(ms) * time.Millisecond
		}
	}
	left := s.end(grace)
	s.say("done %d", left)
	return nil
}

type supervisor struct {
	tree   *tree
	status io.Writer
	exits  chan struct{} // closed when no child is left
}

// control returns the lines of the control pipe.
func control(r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

func (s *supervisor) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.status, format+"\n", args...) // the recorder may be gone
}

func (s *supervisor) refuse(err error) error {
	s.say("refused %s", strings.ReplaceAll(err.Error(), "\n", " "))
	return err
}

func (s *supervisor) start(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	events := os.NewFile(fdEvents, "events")
	cmd.ExtraFiles = []*os.File{events}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	note, err := confined(dir, cmd.Start)
	if err != nil {
		return err
	}
	if note != "" {
		s.say("unconfined %s", note)
	}
	_ = events.Close() // the workload has it now
	main := cmd.Process.Pid
	s.say("started %d", main)
	go s.reap(main)
	return nil
}

// reap waits for every child, adopted ones included, until none is left.
func (s *supervisor) reap(main int) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // no children
			close(s.exits)
			return
		case pid != main:
		case status.Signaled():
			s.say("signal %s", unix.SignalName(status.Signal()))
		default:
			s.say("exit %d", status.ExitStatus())
		}
	}
}

// end terminates the tree, then kills it. It returns the number of processes at the
// beginning.
func (s *supervisor) end(grace time.Duration) int {
	found := s.signal(unix.SIGTERM, unix.SIGCONT)
	select {
	case <-s.exits:
		return found
	case <-time.After(grace):
	}
	for until := time.Now().Add(killFor); time.Now().Before(until); {
		// Stop them first, so that forks cannot outrun the kill.
		s.signal(unix.SIGSTOP)
		s.signal(unix.SIGKILL)
		select {
		case <-s.exits:
			return found
		case <-time.After(5 * time.Millisecond):
		}
	}
	return found
}

func (s *supervisor) signal(signals ...unix.Signal) int {
	pids, err := s.tree.below(os.Getpid())
	if err != nil {
		return 0 // nothing left; s.exits reports it
	}
	for _, pid := range pids {
		for _, sig := range signals {
			_ = unix.Kill(pid, sig) // fails if it has ended
		}
	}
	return len(pids)
}

package orchestrate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/check"
)

// workload is the command of one episode and all its processes, under a supervisor.
type workload struct {
	pid     int // the supervisor's
	main    int // the command's, once it is started
	control io.WriteCloser
	ended   chan ending // one value when the command has ended
	started chan error  // one value: nil, or the error
	done    chan int    // one value: how many processes outlived the command, or -1
	output  *tail
	// unconfined is why the command is not confined, or "".
	unconfined string
	wait       func() error
}

// ending is how the command ended.
type ending struct {
	how      string // "exit 3", "signal SIGKILL"
	clean    bool   // exit 0
	signaled bool
}

// command describes the supervisor's command.
type command struct {
	supervisor []string // this program's argv that runs Supervise, without the command
	argv       []string
	dir        string
	events     string   // path of the socket
	child      *os.File // the inherited end
}

// workloadPath is the PATH of a command.
const workloadPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// spawn starts the supervisor, which starts the command when start is called.
func spawn(c command) (w *workload, err error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append(append([]string{}, c.supervisor...), c.argv...)}
	cmd.Dir = c.dir
	// The command inherits nothing of the recorder's environment: no secrets, no notify socket.
	cmd.Env = []string{
		"PATH=" + workloadPath, "LANG=C",
		"HOME=" + c.dir, "TMPDIR=" + c.dir, "CIS490_EVENTS=" + c.events,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal's signals
	statusOurs, statusTheirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	outOurs, outTheirs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start supervisor: %w", err), statusOurs.Close(), statusTheirs.Close())
	}
	cmd.Stdout, cmd.Stderr = outTheirs, outTheirs
	cmd.ExtraFiles = []*os.File{c.child, statusTheirs}
	w = &workload{ended: make(chan ending, 1), started: make(chan error, 1), done: make(chan int, 1), output: &tail{}}
	if w.control, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	_, _ = statusTheirs.Close(), outTheirs.Close() // the supervisor has them now
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start supervisor: %w", err), statusOurs.Close(), outOurs.Close())
	}
	w.pid, w.wait = cmd.Process.Pid, cmd.Wait
	go func() {
		_, _ = io.Copy(w.output, outOurs) // ends with the last process
		_ = outOurs.Close()
	}()
	go w.listen(statusOurs)
	return w, nil
}

// start starts the command and waits until it runs.
func (w *workload) start() error {
	if _, err := io.WriteString(w.control, "go\n"); err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	return <-w.started
}

// stop ends the whole tree and returns the number of processes that outlived the command.
func (w *workload) stop(grace time.Duration) (int, error) {
	_, err := fmt.Fprintf(w.control, "stop %d\n", grace.Milliseconds())
	err = errors.Join(err, w.control.Close())
	select {
	case left := <-w.done:
		// Its exit status adds nothing to the status lines.
		_ = w.wait()
		if left < 0 {
			return 0, errors.Join(errors.New("the supervisor of the command ended before it"), err)
		}
		return left, nil
	case <-time.After(grace + killFor + 10*time.Second):
		return 0, errors.Join(errors.New("the processes of the command do not end"), err, unix.Kill(w.pid, unix.SIGKILL))
	}
}

// listen parses status lines; the end of the pipe ends all waits.
func (w *workload) listen(r io.ReadCloser) {
	begun, over, left := false, false, -1
	for lines := bufio.NewScanner(r); lines.Scan(); {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "unconfined":
			w.unconfined = rest // read after a value on started
		case "started":
			begun = true
			w.main, _ = strconv.Atoi(rest) // written by Supervise
			w.started <- nil
		case "refused":
			begun = true
			w.started <- fmt.Errorf("start command: %s", rest)
		case "exit", "signal":
			over = true
			w.ended <- ending{how: verb + " " + rest, clean: verb == "exit" && rest == "0", signaled: verb == "signal"}
		case "done":
			if n, err := strconv.Atoi(rest); err == nil {
				left = n
			}
		}
	}
	_ = r.Close()
	if !begun {
		w.started <- errors.New("start command: the supervisor ended")
	}
	if !over {
		w.ended <- ending{how: "the supervisor ended"}
	}
	w.done <- left
}

// tail keeps the last output of a workload, for the reason of a failure.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	const most = 2048
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > most {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-most:]...)
	}
	return len(p), nil
}

// wait returns the last line of output, or "" if none comes in time.
func (t *tail) wait(limit time.Duration) string {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); ; {
		if last := t.last(); last != "" {
			return last
		}
		select {
		case <-end:
			return ""
		case <-tick.C:
		}
	}
}

// last returns the last line of output.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	return check.Sanitize(lines[len(lines)-1], 200)
}

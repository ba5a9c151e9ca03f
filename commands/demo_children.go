package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cis490/internal/disk"
)

// children are the demo's processes. Each has its own process group, so that Ctrl-C reaches
// only the demo, which stops them in order. If the demo is killed, the kernel kills them
// too (Pdeathsig, hence the locked thread).
type children struct {
	dir     string
	exe     string
	cancel  context.CancelFunc // ends the repeated commands
	repeats sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	running  []*child
	died     chan error // error of the first that ended by itself
}

type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

func newChildren(dir string) *children {
	// Not os.Executable, because this link stays right when the file is replaced.
	return &children{dir: dir, exe: "/proc/self/exe", cancel: func() {}, died: make(chan error, 1)}
}

// command prepares a run of this program with its own log file.
func (k *children) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.exe, args...)
	cmd.Args[0] = "cis490"
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd
}

func (k *children) log(name string) string { return filepath.Join(k.dir, "logs", name+".log") }

// start starts a daemon. died receives an error if it ends by itself.
func (k *children) start(name string, args ...string) error {
	f, err := disk.OS{}.OpenFile(k.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the child has its own descriptor
	cmd := k.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name, cmd, make(chan struct{})}
	k.mu.Lock()
	k.running = append(k.running, c)
	k.mu.Unlock()
	go func() {
		err := cmd.Wait()
		close(c.done)
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.stopping {
			select {
			case k.died <- endedByItself(name, err, k.tail(name)):
			default:
			}
		}
	}()
	return nil
}

// run runs a command to its end and returns its standard output.
func (k *children) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := k.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	log := append(slices.Clip(errOut.Bytes()), out.Bytes()...)
	if strings.HasPrefix(name, "token") {
		log = errOut.Bytes() // standard output is a secret
	}
	if f, ferr := (disk.OS{}).OpenFile(k.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); ferr == nil {
		_, werr := f.Write(log)
		err = errors.Join(err, werr, f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w:\n%s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), nil
}

// repeat runs a command at intervals until stop.
func (k *children) repeat(ctx context.Context, every time.Duration, name string, args ...string) {
	ctx, k.cancel = context.WithCancel(ctx)
	k.repeats.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if _, err := k.run(ctx, name, args...); err != nil && ctx.Err() == nil {
				select {
				case k.died <- err:
				default:
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// waitFile waits until a child has written a file.
func (k *children) waitFile(ctx context.Context, path string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for {
		if fi, err := (disk.OS{}).Lstat(path); err == nil && fi.Size() > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-k.died:
			return err
		case <-timeout:
			return fmt.Errorf("%s did not appear within 20s", path)
		case <-tick.C:
		}
	}
}

// maxTail bounds the part of a log that tail reads, in bytes.
const maxTail = 64 << 10

// tail returns the last lines of a child's log.
func (k *children) tail(name string) string {
	f, err := disk.OS{}.OpenFile(k.log(name), os.O_RDONLY, 0)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-maxTail), maxTail))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// stop stops all children in reverse order and waits for them.
func (k *children) stop() error {
	k.cancel()
	k.repeats.Wait()
	k.mu.Lock()
	k.stopping = true
	running := slices.Clone(k.running)
	k.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(running) {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
		_ = c.cmd.Process.Signal(syscall.SIGCONT) // a stopped process ends only after it goes on
		select {
		case <-c.done:
		case <-time.After(20 * time.Second):
			errs = append(errs, fmt.Errorf("%s did not stop within 20s", c.name), syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL))
			<-c.done
		}
	}
	return errors.Join(errs...)
}

func endedByItself(name string, err error, log string) error {
	if err == nil {
		return fmt.Errorf("%s ended by itself:\n%s", name, log)
	}
	return fmt.Errorf("%s ended by itself: %w:\n%s", name, err, log)
}

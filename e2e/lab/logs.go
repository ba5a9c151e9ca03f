package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// logsVariable overrides the folder for the logs of failed tests.
const logsVariable = "CIS490_LAB_LOGS"

// saveLogs saves each host's journal, failed units, console and the names of its cis490
// files in $CIS490_LAB_LOGS or e2e/logs. It does not save their content, which has keys.
func (l *Lab) saveLogs() {
	hosts := l.all()
	if len(hosts) == 0 {
		return
	}
	dir, err := l.logDir()
	if err != nil {
		l.tb.Logf("lab: save logs: %v", err)
		return
	}
	for _, h := range hosts {
		if err := h.saveLogs(filepath.Join(dir, h.Name)); err != nil {
			l.tb.Logf("lab: save logs of %s: %v", h.Name, err)
		}
	}
	l.tb.Logf("lab: the logs of %d hosts are in %s", len(hosts), dir)
}

// logDir creates the folder for this lab's logs. In the source tree, the folder has a
// .gitignore.
func (l *Lab) logDir() (string, error) {
	logs := os.Getenv(logsVariable)
	if logs == "" {
		root, err := projectRoot()
		if err != nil {
			return "", err
		}
		logs = filepath.Join(root, "e2e", "logs")
		if err := os.MkdirAll(logs, 0o755); err != nil {
			return "", fmt.Errorf("make the folder of logs: %w", err)
		}
		if err := os.WriteFile(filepath.Join(logs, ".gitignore"), []byte("*\n"), 0o644); err != nil {
			return "", fmt.Errorf("hide the folder of logs: %w", err)
		}
	}
	dir := filepath.Join(logs, strings.ReplaceAll(l.tb.Name(), "/", "_"), l.run.id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of logs: %w", err)
	}
	return dir, nil
}

func (h *Host) saveLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var failures []error
	keep := func(name, text string, err error) {
		if err != nil {
			text += "\n" + err.Error() + "\n"
		}
		failures = append(failures, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	text, err := h.journal("")
	keep("journal.txt", text, err)
	console, err := os.ReadFile(h.console())
	keep("console.txt", string(console), err)
	files, err := h.onDisk(nil, `for d in /var/lib/cis490 /var/lib/cis490-authority /etc/cis490 /opt/cis490; do [ ! -e "$d" ] || `+
		`ls -laR "$d" | head -n 5000; done`)
	keep("files.txt", files.Out, err)
	units := Result{Out: "the host was off\n"}
	if h.on() {
		units, err = h.onDisk(nil, `systemctl --no-pager list-units --failed; systemctl --no-pager list-timers --all; `+
			`systemctl --no-pager status 'cis490-*'; true`)
	}
	keep("units.txt", units.Out, err)
	return errors.Join(failures...)
}

// panicking reports whether this goroutine is panicking. The cleanups of such a test run
// before Failed returns true.
func panicking() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		frame, more := frames.Next()
		if frame.Function == "runtime.gopanic" {
			return true
		}
		if !more {
			return false
		}
	}
}

// Package journal logs to the systemd journal with levels and fields.
//
// A Handler renders each record as a line of text, which is the entry's MESSAGE. The
// level is its PRIORITY, so that journalctl -p warning lists warnings and errors.
// A long-running process also sends attributes as fields: host=lab-07 is found by
// CIS490_HOST=lab-07 (systemd.journal-fields(7)). A process that ends soon writes lines
// with a priority prefix to standard error instead (sd-daemon(3)): of a datagram whose
// sender is gone, the journal may not find the unit. The package keeps no state
// between records.
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// Send sends one entry to the journal; [journal.Send] is one.
type Send func(message string, p journal.Priority, fields map[string]string) error

// Handler is an slog.Handler. Its methods may be called from many goroutines.
type Handler struct {
	text   slog.Handler // writes to line
	line   *bytes.Buffer
	mu     *sync.Mutex // guards line
	fields map[string]string
	clean  func([]byte) []byte
	stderr io.Writer
	send   Send
}

// New returns a Handler for records of at least a level. clean masks and escapes what
// send gets; stderr is expected to do so by itself. Lines go to stderr if send is nil
// or fails.
func New(level slog.Leveler, clean func([]byte) []byte, stderr io.Writer, send Send) *Handler {
	line := new(bytes.Buffer)
	text := slog.NewTextHandler(line, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	return &Handler{text: text, line: line, mu: new(sync.Mutex), clean: clean, stderr: stderr, send: send}
}

// withoutTime drops a record's time: the journal has its own.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	p := priority(r.Level)
	if h.send != nil {
		fields := maps.Clone(h.fields)
		r.Attrs(func(a slog.Attr) bool {
			fields = h.with(fields, a)
			return true
		})
		if h.send(strings.TrimSuffix(string(h.clean(h.line.Bytes())), "\n"), p, fields) == nil {
			return nil
		}
	}
	_, err := fmt.Fprintf(h.stderr, "<%d>%s", p, h.line.Bytes())
	return err
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.text, n.fields = h.text.WithAttrs(attrs), maps.Clone(h.fields)
	for _, a := range attrs {
		n.fields = h.with(n.fields, a)
	}
	return &n
}

// WithGroup implements slog.Handler. Fields have no groups.
func (h *Handler) WithGroup(name string) slog.Handler {
	n := *h
	n.text = h.text.WithGroup(name)
	return &n
}

// with adds an attribute to fields, by a name that the journal accepts: capitals,
// digits and underscores.
func (h *Handler) with(fields map[string]string, a slog.Attr) map[string]string {
	if fields == nil {
		fields = map[string]string{}
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(a.Key))
	fields["CIS490_"+name] = string(h.clean([]byte(a.Value.Resolve().String())))
	return fields
}

// priority returns the priority of syslog(3) for a level.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

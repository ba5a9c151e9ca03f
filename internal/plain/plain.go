// Package plain writes text for people and programs: terminals, logs, JSON, HTML and messages.
//
// Text may come from a host, a receiver, a file or a command line. Control characters can
// move a cursor or hide a line, and bidirectional overrides reorder text. Escape replaces
// such characters by \uXXXX, as in JSON, so that escaped JSON keeps its value. Time formats
// times.
package plain

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// hidden reports whether a character is invisible: control and format characters, line and
// paragraph separators, private use, unassigned code points, and ignorable characters.
func hidden(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Escape returns b with hidden characters, except newline and tab, as \uXXXX, and each
// invalid UTF-8 byte as \ufffd. It returns b itself if there are none.
func Escape(b []byte) []byte {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if escaped(r, n) {
			return escapeFrom(b, i)
		}
		i += n
	}
	return b
}

func escaped(r rune, size int) bool {
	return hidden(r) && r != '\n' && r != '\t' || r == utf8.RuneError && size == 1
}

func escapeFrom(b []byte, at int) []byte {
	out := append(make([]byte, 0, len(b)+64), b[:at]...)
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		switch {
		case !escaped(r, n):
			out = append(out, b[at:at+n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		at += n
	}
	return out
}

// Line returns s as one line of at most limit characters. Hidden characters become spaces,
// and an ellipsis marks a cut.
func Line(s string, limit int) string {
	if len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s // the usual case
	}
	var out strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > limit {
			return out.String() + "…"
		}
		if r == utf8.RuneError || hidden(r) || unicode.IsSpace(r) {
			r = ' '
		}
		out.WriteRune(r)
	}
	return out.String()
}

// Writer escapes everything written to it. Its methods are safe for concurrent use.
type Writer struct {
	w    io.Writer
	mu   sync.Mutex
	rest []byte // an incomplete character at the end of the last Write
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write escapes p and writes it. It returns len(p) unless the underlying writer fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := p
	if len(w.rest) > 0 {
		b = slices.Concat(w.rest, p)
	}
	whole := len(b)
	for i := 1; i <= min(utf8.UTFMax-1, len(b)); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= i
			}
			break
		}
	}
	w.rest = append([]byte(nil), b[whole:]...)
	if _, err := w.w.Write(Escape(b[:whole])); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Below returns the underlying writer.
func (w *Writer) Below() io.Writer { return w.w }

// Below returns the underlying writer of a Writer, for trusted control sequences, and any
// other writer unchanged.
func Below(w io.Writer) io.Writer {
	if p, ok := w.(interface{ Below() io.Writer }); ok {
		return p.Below()
	}
	return w
}

// Package plain is the exit of text to people and to other programs: terminal, log,
// JSON, HTML and messages.
//
// Text may come from a host, a receiver, a file or a command line. Its control
// characters move a cursor or hide a line, and its bidirectional overrides reorder
// what is read. Escape makes such characters visible as \uXXXX, which is also how
// JSON writes them: escaped JSON has the same value. The package keeps no state
// beside the bytes of an incomplete character in a Writer.
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

// hidden reports whether a reader cannot see the character: control and format
// characters, line and paragraph separators, private use, unassigned code points,
// and letters without a shape.
func hidden(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Escape returns b with its hidden characters, except newline and tab, as \uXXXX,
// and each byte that is not UTF-8 as \ufffd. It returns b itself if there is none.
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

// Line returns s as one line of at most limit characters: each hidden character is a
// space. An ellipsis stands for what was cut.
func Line(s string, limit int) string {
	if len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s // the most texts
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

// Writer escapes what is written to it. Its methods may be called from many
// goroutines.
type Writer struct {
	w    io.Writer
	mu   sync.Mutex
	rest []byte // the begin of a character whose end is not written yet
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write escapes p and writes it. It returns len(p) unless the writer below fails.
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

// Below returns the writer below this one.
func (w *Writer) Below() io.Writer { return w.w }

// Below returns the writer below a Writer, for control sequences of our own, and any
// other writer as it is.
func Below(w io.Writer) io.Writer {
	if p, ok := w.(interface{ Below() io.Writer }); ok {
		return p.Below()
	}
	return w
}

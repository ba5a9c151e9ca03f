package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/xrash/smetrics"

	"cis490/internal/ident"
)

// problems collects the errors of a Validate. Errors contain no values of the file that
// could be misplaced secrets.
type problems struct{ all []error }

func (p *problems) add(key, format string, args ...any) {
	p.all = append(p.all, &Error{Key: key, Why: fmt.Sprintf(format, args...)})
}

func (p *problems) absolute(key, path string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		p.add(key, "want an absolute, clean path")
	}
}

func (p *problems) httpsURL(key, s string) {
	u, err := url.Parse(s)
	wrong := err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()) ||
		u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != ""
	if wrong {
		p.add(key, `want "https://NAME:PORT"`)
	}
}

// webURL does not print the value, because its path may be a secret.
func (p *problems) webURL(key, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "":
		p.add(key, `want "https://NAME/PATH"`)
	case u.User != nil:
		p.add(key, "move the password out of this file: put a generic:// URL into urls_file")
	}
}

func (p *problems) address(key, s string) {
	if _, port, err := net.SplitHostPort(s); err != nil || !isPort(port) {
		p.add(key, `want "ADDRESS:PORT" or ":PORT"`)
	}
}

// isPort reports whether s is a port number or service name.
func isPort(s string) bool {
	_, err := net.LookupPort("tcp", s)
	return s != "" && err == nil
}

func (p *problems) positive(key string, v int64) {
	if v <= 0 {
		p.add(key, "want more than 0")
	}
}

func (p *problems) between(key string, v, least, most int) {
	if v < least || v > most {
		p.add(key, "want %d to %d, got %d", least, most, v)
	}
}

// lasting rejects durations below a second, which are mistyped units.
func (p *problems) lasting(key string, d Duration) {
	if d.D() < time.Second {
		p.add(key, "want 1s or more, got %s", d.D())
	}
}

func (p *problems) notNegative(key string, v int64) {
	if v < 0 {
		p.add(key, "want 0 or more, got %d", v)
	}
}

// commits validates commits, which the decoder does not, because an invalid commit would
// block nothing.
func (p *problems) commits(key string, all []ident.Commit) {
	for i, c := range all {
		_, err := ident.ParseCommit(string(c))
		switch {
		case err == nil:
		case len(c) <= 12 && strings.Trim(string(c), "0123456789abcdef") == "": // abbreviated, not a secret
			p.add(key, "%v", err)
		default:
			p.add(key, "commit %d: want 40 lower-case hex digits", i+1)
		}
	}
}

func seconds(n int64) Duration { return Duration(time.Duration(n) * time.Second) }
func minutes(n int64) Duration { return Duration(time.Duration(n) * time.Minute) }
func hours(n int64) Duration   { return Duration(time.Duration(n) * time.Hour) }

func dotted(key []string) string { return strings.Join(key, ".") }

// position returns where a dotted key is set, so that errors of Validate have a line. A key
// that is not set gets the position of its table; 0, 0 if the file has neither.
func position(content []byte, key string) (line, col int) {
	p := unstable.Parser{}
	p.Reset(content)
	table, seen := "", map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		at := e.Kind == unstable.Table || e.Kind == unstable.ArrayTable
		if !at && e.Kind != unstable.KeyValue {
			continue
		}
		first := e.Key()
		first.Next()
		start := p.Shape(first.Node().Raw).Start
		path := indexed(e, table, seen)
		if at {
			table = path
		}
		if path == key {
			return start.Line, start.Column
		}
		if at && strings.HasPrefix(key, path+".") {
			line, col = start.Line, start.Column
		}
	}
	return line, col
}

// indexed returns the dotted key of an expression, with the index in each array of tables.
// seen counts the elements of each.
func indexed(e *unstable.Node, table string, seen map[string]int) string {
	var path string
	if e.Kind == unstable.KeyValue {
		path = table
	}
	for it := e.Key(); it.Next(); {
		if path != "" {
			path += "."
		}
		path += string(it.Node().Data)
		if e.Kind == unstable.ArrayTable && it.IsLast() {
			seen[path]++
		}
		if n := seen[path]; n > 0 {
			path += fmt.Sprintf("[%d]", n-1)
		}
	}
	return path
}

// didYouMean returns a hint with a known key that is at most two edits away.
func didYouMean(key string, c any) string {
	best, at := "", 3
	for _, known := range keysOf(reflect.TypeOf(c), "") {
		if d := smetrics.WagnerFischer(key, known, 1, 1, 1); d < at {
			best, at = known, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("toml")
		keys = append(keys, name)
		in := f.Type
		if in.Kind() == reflect.Slice || in.Kind() == reflect.Pointer {
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct {
			keys = append(keys, keysOf(in, name+".")...)
		}
	}
	return keys
}

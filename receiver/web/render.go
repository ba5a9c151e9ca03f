package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

//go:embed static templates
var files embed.FS

// asset is a file of ours that pages load, under a name that changes with it.
type asset struct {
	kind    string
	content []byte
	mark    string
}

func loadAssets() (map[string]asset, error) {
	all := map[string]asset{}
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		b, err := files.ReadFile(path.Join("static", name))
		if err != nil {
			return nil, fmt.Errorf("load the dashboard's files: %w", err)
		}
		sum := sha256.Sum256(b)
		all[name] = asset{kind, b, hex.EncodeToString(sum[:6])}
	}
	return all, nil
}

func (s *Site) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := s.assets[r.PathValue("file")]
	if !ok {
		return wire.NewProblem(wire.NotFound, "no such file")
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	r.Header.Del("Range") // a small file: of many ranges the heads would be larger
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
	return nil
}

func (s *Site) parse() (map[string]*template.Template, error) {
	funcs := template.FuncMap{
		"ago": ago, "stamp": stamp, "bars": bars, "bytes": humanBytes, "plain": check.Sanitize, "where": where, "paste": paste,
		"days": s.days, "short": func(v any) string { return check.Sanitize(fmt.Sprint(v), 12) },
		"asset": func(name string) string { return "/assets/" + name + "?v=" + s.assets[name].mark },
		"count": func(n any) string { return thousands(fmt.Sprint(n)) }, "most": func(c [slotCount]uint32) uint32 { return slices.Max(c[:]) },
		"ending":  func(h *roster.Host) bool { return h != nil && h.Ending(s.o.Now()) },
		"percent": func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }, "nanos": func(n int64) string { return fmt.Sprintf("%.3f s", float64(n)/1e9) },
		"seconds": func(x float64) string { return machine.HumanDuration(time.Duration(x * float64(time.Second))) },
		"span":    func(a, b time.Time) string { return b.Sub(a).Round(time.Millisecond).String() },
		"signed": func(d float64) string {
			return strings.Replace(strconv.FormatFloat(d, 'f', 1, 64), "-0.0", "0.0", 1) + " s"
		},
		"class":    func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), " ", "-") },
		"silences": func() bool { return s.o.Silences != nil },
		"since":    func(s string) string { return strings.TrimSuffix(s, " ago") },
		"both": func(f frame, a alertView) any {
			return struct {
				Frame frame
				Alert alertView
			}{f, a}
		},
	}
	all := map[string]*template.Template{}
	for _, name := range []string{"signin", "fleet", "host", "episodes", "episode", "releases", "error"} {
		t, err := template.New("base.html").Funcs(funcs).ParseFS(files, "templates/base.html", "templates/alert.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("load the dashboard's pages: %w", err)
		}
		all[name] = t
	}
	return all, nil
}

// frame is what every page has around its content.
type frame struct {
	Page, Title string
	Now         time.Time
	Version     string
	SignedIn    bool
	Code        string // of this session's forms
	Here        string // where a form leads back to
	Data        any
}

// render makes the page as a whole before it sends it, so that an error never
// leaves half of one.
func (s *Site) render(w http.ResponseWriter, r *http.Request, status int, page, title string, data any) error {
	f := frame{Page: page, Title: title, Now: s.o.Now().UTC(), Version: s.o.Build.Version, Here: r.URL.RequestURI(), Data: data}
	if token, session, ok := s.session(r); ok {
		f.SignedIn, f.Code = true, formCode(token, session)
	}
	var b bytes.Buffer
	if err := s.pages[page].Execute(&b, f); err != nil {
		return fmt.Errorf("make page: %w", err)
	}
	// html/template escapes markup; hidden characters would still reorder the page.
	text := plain.Escape(b.Bytes())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // the caller is gone: the access log has the rest
	}
	return nil
}

// bars draws counts as an SVG of one path. It holds digits only.
func bars(counts [slotCount]uint32) template.HTML {
	most := slices.Max(counts[:])
	var d strings.Builder
	for i, c := range counts {
		if c > 0 {
			fmt.Fprintf(&d, "M%d 16v-%d", 3*i+1, max(1, (uint64(c)*15+uint64(most)/2)/uint64(most)))
		}
	}
	return template.HTML(`<svg viewBox="0 0 71 16" preserveAspectRatio="none" aria-hidden="true"><path class="base" d="M0 15.7h71"/><path d="` + d.String() + `"/></svg>`)
}

// thousands sets groups of digits apart.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if d := now.Sub(t); d >= time.Second {
		return machine.HumanDuration(d) + " ago"
	}
	return "now"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func humanBytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// days says how long a certificate lives.
func (s *Site) days(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	left := t.Sub(s.o.Now())
	switch {
	case left <= 0:
		return "expired"
	case left < 48*time.Hour:
		return machine.HumanDuration(left)
	}
	return fmt.Sprintf("%d d", int(left.Hours()/24))
}

// where returns the machine that a fix is for, and paste the fix without it: a
// fix reads "on lab-07: command", or is a sentence that begins with "nothing".
func where(fix string) string {
	if head, _, ok := strings.Cut(fix, ": "); ok && strings.HasPrefix(head, "on ") && len(head) < 80 {
		return head
	}
	return ""
}

func paste(fix string) string {
	if head := where(fix); head != "" {
		return fix[len(head)+2:]
	}
	if strings.HasPrefix(fix, "nothing") {
		return ""
	}
	return fix
}

// fixFor names the host in a fix of the registry.
func fixFor(fix string, h ident.Host) string {
	fix = strings.ReplaceAll(fix, "on the lab host", "on "+string(h))
	return strings.ReplaceAll(fix, "HOST", string(h))
}

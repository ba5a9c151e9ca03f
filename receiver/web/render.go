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
	"cis490/receiver"
	"cis490/receiver/roster"
)

//go:embed static templates
var files embed.FS

// asset is a file that pages load. Its URL has the mark, a hash of the content.
type asset struct {
	kind    string
	content []byte
	mark    string
}

func loadAssets() (map[string]asset, error) {
	all := map[string]asset{}
	for name, kind := range map[string]string{
		"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8",
		"icon.svg": "image/svg+xml",
	} {
		b, err := files.ReadFile(path.Join("static", name))
		if err != nil {
			return nil, fmt.Errorf("read the dashboard's files: %w", err)
		}
		sum := sha256.Sum256(b)
		all[name] = asset{kind, b, hex.EncodeToString(sum[:6])}
	}
	return all, nil
}

func (s *Site) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := s.assets[r.PathValue("file")]
	if !ok {
		return wire.NewProblem(wire.NotFound, "no file %s", check.Sanitize(r.PathValue("file"), 80))
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	if r.URL.Query().Get("v") == a.mark { // another content has another name
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	s.send(w, r, http.StatusOK, a.kind, a.content)
	return nil
}

// send sends a body, compressed if the client takes that.
func (s *Site) send(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	s.gzip(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(body))) // removed if it is compressed
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(body) // the caller is gone: the access log has the rest
		}
	})).ServeHTTP(w, r)
}

func (s *Site) parse() (map[string]*template.Template, error) {
	funcs := template.FuncMap{
		"ago": agoTime, "age": ageTime, "stamp": plain.Time, "bars": bars, "bytes": humanBytes, "plain": check.Sanitize, "where": where,
		"paste": paste,
		"days":  s.days, "short": func(v any) string { return check.Sanitize(fmt.Sprint(v), 12) },
		"asset": func(name string) string { return "/assets/" + name + "?v=" + s.assets[name].mark },
		"count": func(n any) string { return thousands(fmt.Sprint(n)) }, "most": func(c [slotCount]uint32) uint32 { return slices.Max(c[:]) },
		"ending":  func(h *roster.Host, end time.Time) bool { return h != nil && h.Ending(end, s.o.Now()) },
		"percent": func(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) },
		"nanos":   func(n int64) string { return fmt.Sprintf("%.3f s", float64(n)/1e9) },
		"seconds": func(x float64) string { return machine.HumanDuration(time.Duration(x * float64(time.Second))) },
		"span":    func(a, b time.Time) string { return b.Sub(a).Round(time.Millisecond).String() },
		"signed": func(d float64) string {
			return strings.Replace(strconv.FormatFloat(d, 'f', 1, 64), "-0.0", "0.0", 1) + " s"
		},
		"class":    func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), " ", "-") },
		"tests":    func() bool { return s.o.TestNotify != nil },
		"silences": func() bool { return s.o.Silences != nil },
		"choice": func(label, name, now string, values []string) any {
			return struct {
				Label, Name, Now string
				Values           []string
			}{label, name, now, values}
		},
		"past": func(p past, periods []period, strips []strip, by string, spans []span) any {
			return struct {
				Past    past
				Periods []period
				Strips  []strip
				By      string
				Spans   []span
			}{p, periods, strips, by, spans}
		},
		"picker": picker, "words": strings.Fields,
		"both": func(f *frame, data any) any {
			return struct {
				Frame *frame
				Data  any
			}{f, data}
		},
	}
	all := map[string]*template.Template{}
	for _, name := range []string{"signin", "fleet", "host", "episodes", "episode", "releases", "alerts", "command", "sent", "error"} {
		t, err := template.New("base.html").Funcs(funcs).ParseFS(files, "templates/base.html", "templates/alert.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("parse the dashboard's pages: %w", err)
		}
		all[name] = t
	}
	return all, nil
}

// frame is what every page has around its content.
type frame struct {
	Page, Title string
	Sick        int // open alerts that are not silenced; 0 if not known
	Now         time.Time
	Version     string
	SignedIn    bool
	MayAct      bool   // the session's role allows changes
	MayRelease  bool   // and orders about releases
	Root        string // the machine where root gives orders
	Code        string // of this session's forms
	Here        string // where a form leads back to
	Theme       string // "light", "dark" or, for the browser's own, ""
	Data        any

	templates *template.Template
	parts     []part
}

// FullTitle returns the title with the number of open alerts in front.
func (f *frame) FullTitle() string {
	if f.Sick > 0 {
		return fmt.Sprintf("(%d) %s – cis490", f.Sick, f.Title)
	}
	return f.Title + " – cis490"
}

// render builds the whole page before it sends it, so that an error never leaves half of
// one. A live page gets its changed parts only.
func (s *Site) render(w http.ResponseWriter, r *http.Request, status int, page, title string, data any) error {
	f := &frame{
		Page:      page,
		Title:     title,
		Now:       s.o.Now().UTC(),
		Version:   s.o.Build.Version,
		Here:      r.URL.RequestURI(),
		Data:      data,
		Root:      s.root(),
		templates: s.pages[page],
	}
	if t, session, ok := s.session(r); ok {
		f.SignedIn, f.Code = true, formCode(t, session)
		f.MayAct, f.MayRelease = t.Role.May(receiver.Operate), t.Role.May(receiver.Release) && !s.copies()
		if m, err := s.model(); err == nil {
			f.Sick = m.Open
		}
	}
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		f.Theme = c.Value
	}
	var b bytes.Buffer
	if err := f.templates.Execute(&b, f); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	if r.Header.Get(marksHeader) != "" && status == http.StatusOK {
		return s.sendParts(w, r, f)
	}
	// html/template escapes markup; hidden characters would still reorder the page.
	s.send(w, r, status, "text/html; charset=utf-8", plain.Escape(b.Bytes()))
	return nil
}

// themeCookie has the theme that was chosen on the page. It is not a secret.
const themeCookie = "cis490-theme"

// bars draws counts as an SVG with one path. Its only variable part is digits.
func bars(counts [slotCount]uint32) template.HTML {
	most := slices.Max(counts[:])
	var d strings.Builder
	for i, c := range counts {
		if c > 0 {
			fmt.Fprintf(&d, "M%d 16v-%d", 3*i+1, max(1, (uint64(c)*15+uint64(most)/2)/uint64(most)))
		}
	}
	return template.HTML(
		`<svg viewBox="0 0 71 16" preserveAspectRatio="none" aria-hidden="true">` +
			`<path class="base" d="M0 15.7h71"/><path d="` + d.String() + `"/></svg>`,
	)
}

// thousands separates groups of three digits.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// agoTime returns a time element such as "5 min ago", which the page keeps up to date.
func agoTime(now, t time.Time) template.HTML { return timeElement("ago", now, t, " ago") }

// ageTime is agoTime without "ago".
func ageTime(now, t time.Time) template.HTML { return timeElement("age", now, t, "") }

func timeElement(kind string, now, t time.Time, after string) template.HTML {
	if t.IsZero() {
		return "never"
	}
	text := machine.HumanDuration(max(0, now.Sub(t))) + after
	if now.Sub(t) < time.Second && kind == "ago" {
		text = "now"
	}
	return template.HTML(
		fmt.Sprintf("<time data-%s datetime=%q>%s</time>", kind, t.UTC().Format("2006-01-02T15:04:05Z"), text),
	) //nolint:gosec // digits
}

// picker returns a time of a query as a date picker takes it, or "".
func picker(text string) string {
	t, err := plain.ParseTime(text)
	if err != nil {
		return ""
	}
	return t.Format("2006-01-02T15:04")
}

func humanBytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// days returns how long a certificate is still valid.
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

// where returns the machine of a fix, and paste the command: a fix is "on lab-07: command",
// or a sentence that begins with "nothing".
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

// fixFor returns a check's fix with the host's name.
func fixFor(fix string, h ident.Host) string {
	fix = strings.ReplaceAll(fix, "on the lab host", "on "+string(h))
	return strings.ReplaceAll(fix, "HOST", string(h))
}

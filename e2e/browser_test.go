//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cis490/e2e/lab"
)

// chromium is Debian's Chromium with one page, in the lab's network.
type chromium struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string // errors and warnings of the console
}

// newChromium starts the browser. It resolves name to addr.
func newChromium(t *testing.T, l *lab.Lab, name, addr string) *chromium {
	t.Helper()
	enter := l.Command("chromium")
	c := &chromium{t: t}
	var cancel context.CancelFunc
	c.ctx, cancel = chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(
		chromedp.ExecPath("chromium"), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("lang", "en-US"),
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("host-resolver-rules", "MAP "+name+" "+addr),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.Args = append(slices.Clone(enter.Args), cmd.Args[1:]...)
			cmd.Path = enter.Path
		}),
	))
	t.Cleanup(cancel)
	if err := chromedp.Listen(c.ctx, c.listen); err != nil {
		t.Fatalf("start chromium (apt-get install chromium): %v", err)
	}
	for _, permission := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(c.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: permission}, Setting: browser.PermissionSettingGranted,
		})
		if err != nil {
			t.Fatalf("chromium: %v", err)
		}
	}
	call(c, log.Enable, cdp.Empty{})
	return c
}

// call sends a DevTools command to the page.
func call[P, R any](c *chromium, command cdp.Command[P, R], params P) R {
	c.t.Helper()
	r, err := chromedp.Run(c.ctx, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
	if err != nil {
		c.t.Fatalf("chromium: %v", err)
	}
	return r
}

func (c *chromium) listen(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text = fmt.Sprint(e.Type, e.Args)
		}
	case *log.EventEntryAdded: // such as blocked by the content policy, or not found
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			text = fmt.Sprint(e.Entry.Source, ": ", e.Entry.Text, " ", e.Entry.URL)
		}
	}
	if text != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errors = append(c.errors, text)
	}
}

// consoleErrors returns the errors and warnings of the console so far.
func (c *chromium) consoleErrors() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.errors)
}

// do runs actions in the page, within a minute.
func (c *chromium) do(actions ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		c.t.Fatalf("chromium: %v\n%s", err, strings.Join(c.consoleErrors(), "\n"))
	}
}

// run runs a script in the page.
func (c *chromium) run(script string) {
	c.t.Helper()
	c.do(chromedp.Evaluate[chromedp.Void](script))
}

// eval returns the result of a script in the page.
func (c *chromium) eval(script string) string {
	c.t.Helper()
	s, err := chromedp.Run(c.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	if err != nil {
		c.t.Fatalf("chromium: %v\n%s", err, script)
	}
	return s
}

// waitFor waits until a script in the page returns true.
func (c *chromium) waitFor(limit time.Duration, what, script string) {
	c.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if c.eval("String(Boolean("+script+"))") == "true" {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("chromium: %s: not within %s; text of the page:\n%s", what, limit, c.eval("document.body.innerText"))
		}
	}
}

// A viewport is a size of the page and a color scheme.
type viewport struct {
	name          string
	width, height int64
	dark          bool
}

func viewports() []viewport {
	return []viewport{{"light", 1200, 900, false}, {"dark", 1200, 900, true}, {"phone", 390, 844, false}}
}

func (c *chromium) setViewport(l viewport) {
	c.t.Helper()
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	call(c, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 600,
	})
	call(c, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// screenshot checks the page in each viewport: nothing is wider than the page, and the
// contrast of text is sufficient. It saves pictures in $CIS490_IMAGES.
func (c *chromium) screenshot(name string) {
	c.t.Helper()
	for _, l := range viewports() {
		c.setViewport(l)
		if over := c.eval(`String(document.documentElement.scrollWidth - document.documentElement.clientWidth)`); over != "0" {
			c.t.Errorf("%s, %s: %s pixels too wide", name, l.name, over)
		}
		if low := c.eval(contrast); low != "" {
			c.t.Errorf("%s, %s: contrast below 4.5:\n%s", name, l.name, low)
		}
		dir := os.Getenv("CIS490_IMAGES")
		if dir == "" {
			continue
		}
		png, err := chromedp.Run(c.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+l.name+".png"), png, 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	c.setViewport(viewports()[0])
}

// contrast lists the texts of the page whose contrast is below WCAG AA.
const contrast = `(() => {
  const rgb = (s) => s.match(/[\d.]+/g).map(Number);
  const lum = ([r, g, b]) => { const f = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const back = (e) => {
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(rgb(getComputedStyle(e).color)), lum(back(e))].sort().reverse();
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push(e.tagName + " " + e.className + " " + ratio.toFixed(2) + ": " + e.textContent.trim().slice(0, 40));
  }
  return low.join("\n");
})()`

// checkAccessibleNames checks that every control has an accessible name, and that the page
// has its landmarks.
func (c *chromium) checkAccessibleNames() {
	c.t.Helper()
	count := map[string]int{}
	for _, n := range call(c, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		count[role]++
		name := ""
		if n.Name != nil {
			name = strings.Trim(string(n.Name.Value), `"`)
		}
		controls := []string{"textbox", "searchbox", "combobox", "button", "link", "navigation"}
		if slices.Contains(controls, role) && name == "" {
			c.t.Errorf("a %s has no name", role)
		}
	}
	for _, role := range []string{"main", "banner", "contentinfo", "heading"} {
		if count[role] == 0 {
			c.t.Errorf("the page has no %s", role)
		}
	}
}

// tabThrough presses Tab n times, and checks that the focus moves down the page over
// visible elements. It returns the names of the focused elements.
func (c *chromium) tabThrough(n int) []string {
	c.t.Helper()
	c.run(`document.activeElement.blur(), window.cis490before = null`)
	var all []string
	for range n {
		c.do(chromedp.KeyEvent(kb.Tab))
		got := c.eval(`(() => {
  const e = document.activeElement, before = window.cis490before, box = e.getBoundingClientRect();
  if (e === document.body) return "";
  window.cis490before = e;
  const name = (e.getAttribute("aria-label") || e.textContent.trim() || e.name).slice(0, 30);
  if (before && !(before.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING)) return "back to " + name;
  if (box.width === 0 || getComputedStyle(e).outlineStyle === "none") return "unseen " + name;
  return name;
})()`)
		if got == "" {
			break
		}
		all = append(all, got)
		if strings.HasPrefix(got, "back to ") || strings.HasPrefix(got, "unseen ") {
			c.t.Errorf("focus order: %v", all)
			break
		}
	}
	return all
}

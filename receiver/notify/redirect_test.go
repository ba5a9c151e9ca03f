package notify

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cis490/internal/config"
	"cis490/receiver/fleet"
)

// TestTargets_ARedirectIsAFailure: a redirected POST would become a GET without the
// message, and its 200 would count as delivered.
func TestTargets_ARedirectIsAFailure(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var followed atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				followed.Add(1)
				_, _ = fmt.Fprint(w, `{"id":"1","ok":true,"code":200}`)
				return
			}
			w.Header().Set("Location", "/elsewhere?token=s3cret")
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		st := newFixture(t)
		host := strings.TrimPrefix(s.URL, "http://")
		lines := fmt.Sprintf(
			"generic://%[1]s/a?disabletls=yes\nntfy://%[1]s/topic?scheme=http\nntfy://%[1]s/topic?scheme=http&disabletlsverification=yes\n"+
				"gotify://%[1]s/AzyoeNS.D4iJLVa?disabletls=yes\nmattermost://%[1]s/aaaabbbbcccc?disabletls=yes\n",
			host,
		)
		urls := filepath.Join(st.dir, "urls")
		if err := os.WriteFile(urls, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		c := config.Notify{URLsFile: urls, WebhookURL: s.URL + "/hook", AlertmanagerURL: s.URL, HeartbeatURL: s.URL + "/beat"}
		beat, _ := Beat(c)
		st.rows(now, firing("lab-1", fleet.Silent, "nothing"))
		states := st.deliver(now, Targets(c)...)
		maps.Copy(states, st.deliver(now, beat)) // which is not called beside the others
		if len(states) != 8 || followed.Load() != 0 {
			t.Errorf("%d: %d targets, followed %d times", status, len(states), followed.Load())
		}
		for name, x := range states {
			if x.Err == "" || !x.Success.IsZero() || strings.Contains(x.Err, "s3cret") {
				t.Errorf("%d: %s: %+v", status, name, x)
			}
			if plain := name == "webhook" || name == "alertmanager" || name == Heartbeat; plain && !strings.Contains(x.Err, "a redirect to") {
				t.Errorf("%d: %s: %s does not name the redirect", status, name, x.Err)
			}
		}
	}
}

// TestTargets_ALineThatIsNotAURL: a password alone on a line appears in no name and no
// error.
func TestTargets_ALineThatIsNotAURL(t *testing.T) {
	s := newFixture(t)
	urls := filepath.Join(s.dir, "urls")
	if err := os.WriteFile(urls, []byte("hunter2s3cret\ns3cret:pass\ns3cret-word://x\n\x1b[2Js3cret://\u202e\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.rows(now, firing("lab-1", fleet.Silent, "nothing"))
	states := s.deliver(now, Targets(config.Notify{URLsFile: urls})...)
	if len(states) != 4 {
		t.Errorf("%d targets", len(states))
	}
	for name, x := range states {
		if x.Err == "" || strings.Contains(name+x.Err, "s3cret") || strings.ContainsAny(name+x.Err, "\x1b\u202e") {
			t.Errorf("%q: %+v", name, x)
		}
	}
}

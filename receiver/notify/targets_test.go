package notify

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/receiver/fleet"
)

// peer is a server that records requests, and answers as the test sets it.
type peer struct {
	mu     sync.Mutex
	asked  []string // method, path, header, body
	status int
}

func newPeer(t *testing.T) (*peer, string) {
	p := &peer{status: http.StatusOK}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked = append(
			p.asked,
			fmt.Sprintf("%s %s key=%s auth=%s\n%s", r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), b),
		)
		w.WriteHeader(p.status)
	}))
	t.Cleanup(s.Close)
	return p, s.URL
}

func (p *peer) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

func TestTargets_WhatEachIsSent(t *testing.T) {
	p, base := newPeer(t)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	s := newFixture(t)
	file := func(name, content string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := config.Notify{
		URLsFile:   file("urls", "# mine\n\ngeneric://"+u.Host+"/shout?disabletls=yes\n"),
		WebhookURL: base + "/hook", WebhookTokenFile: file("token", "t0ken\n"), AlertmanagerURL: base + "/", HeartbeatURL: base + "/beat",
	}
	beat, ok := Beat(c)
	if !ok {
		t.Fatal("no heartbeat")
	}
	targets := append(Targets(c), beat)
	evil := firing("lab-1", fleet.Silent, "nothing")
	evil.Detail, evil.Reason = `<b>$(reboot)"`, "; rm -rf /"
	s.rows(now, evil)
	for name, x := range s.deliver(now, targets...) {
		if x.Err != "" || !x.Success.Equal(now) {
			t.Errorf("%s: %+v", name, x)
		}
	}
	got := map[string]string{}
	for _, a := range p.take() {
		path := strings.Fields(a)[1]
		_, body, _ := strings.Cut(a, "\n")
		got[path] = body
		if path == "/hook" && (!strings.Contains(a, "auth=Bearer t0ken") || strings.Contains(a, "key= ")) {
			t.Errorf("hook: %s", a)
		}
	}
	if len(got) != 4 || !strings.Contains(got["/shout"], "cis490: lab-1: silent") || !strings.Contains(got["/shout"], "on lab-1: fix it") {
		t.Errorf("%v", got)
	}
	var m Message
	if err := json.Unmarshal([]byte(got["/hook"]), &m); err != nil || m.Alerts[0].Detail != evil.Detail || m.Code != "nothing" {
		t.Errorf("hook: %v %+v", err, m)
	}
	var posted []manager
	if err := json.Unmarshal([]byte(got["/api/v2/alerts"]), &posted); err != nil || len(posted) != 1 || !posted[0].EndsAt.After(now) ||
		posted[0].Labels["alertname"] != "cis490_silent" {
		t.Errorf("alertmanager: %v %+v", err, posted)
	}

	// After the end, Alertmanager gets one resolved alert.
	later := now.Add(5 * time.Minute)
	s.rows(later, resolved("lab-1", fleet.Silent))
	s.deliver(later, targets...)
	s.deliver(later.Add(time.Minute), targets...)
	ends := 0
	for _, a := range p.take() {
		_, body, _ := strings.Cut(a, "\n")
		if strings.Contains(a, "/api/v2/alerts") {
			ends++
			if err := json.Unmarshal([]byte(body), &posted); err != nil || len(posted) != 1 || posted[0].EndsAt.After(later) {
				t.Errorf("alertmanager at the end: %v %s", err, body)
			}
		}
	}
	if ends != 1 {
		t.Errorf("the end was sent %d times", ends)
	}
}

// TestTargets_ErrorsHoldNoSecret: a URL is a secret, in every form of it.
func TestTargets_ErrorsHoldNoSecret(t *testing.T) {
	p, base := newPeer(t)
	p.status = http.StatusTeapot
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	s := newFixture(t)
	urls := filepath.Join(s.dir, "urls")
	const lines = "generic://%[1]s/s3cret-path?disabletls=yes\nntfy://user:s3cret-pass@%[1]s/s3cret-topic?scheme=http\nsmtp://" +
		"me:s3cret-pass@127.0.0.1:1/?from=a@b.c&to=s3cret@b.c\nno-such://s3cret-token@x\n"
	if err := os.WriteFile(urls, fmt.Appendf(nil, lines, u.Host), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Notify{URLsFile: urls, WebhookURL: base + "/s3cret-hook", AlertmanagerURL: "http://127.0.0.1:1/s3cret-manager"}
	s.rows(now, firing("lab-1", fleet.Silent, "nothing"))
	states := s.deliver(now, Targets(c)...)
	if len(states) != 6 {
		t.Errorf("%d targets", len(states))
	}
	for name, x := range states {
		if x.Err == "" || !x.Failing.Equal(now) {
			t.Errorf("%s: %+v", name, x)
		}
		if strings.Contains(name+x.Err, "s3cret") {
			t.Errorf("%s shows a secret: %s", name, x.Err)
		}
	}
	c.URLsFile = filepath.Join(s.dir, "absent")
	if x := s.deliver(now, Targets(c)...)["urls_file"]; x.Err == "" {
		t.Errorf("an absent file goes unnoticed: %+v", x)
	}
}

package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/httpclient"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
)

// perSend bounds one attempt.
const perSend = 20 * time.Second

// Heartbeat is the name of the target that is requested after each run.
const Heartbeat = "heartbeat"

// Targets returns the targets of a config. A target with an invalid setting is included
// and fails, so that the failure is visible.
func Targets(c config.Notify) []Target {
	client := newClient()
	var all []Target
	if c.URLsFile != "" {
		guardLibrary()
		urls, err := readURLs(c.URLsFile)
		unset := c.URLsFile == config.NotifyURLsPath && errors.Is(err, fs.ErrNotExist) // the default
		if err != nil && !unset {
			fail := func(context.Context, time.Time, []fleet.Alert, []fleet.Alert) error { return err }
			all = append(all, Target{Name: "urls_file", Always: true, Sync: fail})
		}
		for _, u := range urls {
			all = append(all, shout(u))
		}
	}
	if c.WebhookURL != "" {
		all = append(all, Target{Name: "webhook", Send: func(ctx context.Context, m Message) error {
			header := http.Header{"Idempotency-Key": {m.Key}}
			if c.WebhookTokenFile != "" {
				token, err := disk.ReadText(disk.OS{}, c.WebhookTokenFile, disk.Small)
				if err != nil {
					return fmt.Errorf("read webhook token: %w", err)
				}
				header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
			}
			return post(ctx, client, c.WebhookURL, header, m)
		}})
	}
	if c.AlertmanagerURL != "" {
		all = append(all, Target{Name: "alertmanager", Sync: func(ctx context.Context, now time.Time, open, over []fleet.Alert) error {
			return post(ctx, client, strings.TrimSuffix(c.AlertmanagerURL, "/")+"/api/v2/alerts", nil, postable(now, open, over))
		}})
	}
	return all
}

// Beat returns the heartbeat target, which reports that fleet-check ran and delivered its
// alerts; false without one.
func Beat(c config.Notify) (Target, bool) {
	if c.HeartbeatURL == "" {
		return Target{}, false
	}
	client := newClient()
	return Target{Name: Heartbeat, Always: true, Last: true, Sync: func(ctx context.Context, _ time.Time, _, _ []fleet.Alert) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HeartbeatURL, nil)
		if err != nil {
			return errors.New("heartbeat_url is not a URL")
		}
		return do(client, r)
	}}, true
}

// readURLs reads one URL from each line. It ignores empty lines and those that begin with #.
func readURLs(path string) ([]string, error) {
	text, err := disk.ReadText(disk.OS{}, path, disk.Small)
	if err != nil {
		return nil, fmt.Errorf("read urls_file: %w", err)
	}
	var urls []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			urls = append(urls, line)
		}
	}
	return urls, nil
}

// shout returns the target of a shoutrrr URL. Its name has a part of the URL's hash, to
// distinguish two of the same service.
func shout(raw string) Target {
	scheme := schemeOf(raw)
	sum := sha256.Sum256([]byte(raw))
	send := func(ctx context.Context, m Message) error {
		ctx, cancel := context.WithTimeout(ctx, perSend)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- send(raw, scheme, m) }() // the library does not take a context
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer within %s", scheme, perSend)
		}
	}
	return Target{Name: scheme + "-" + hex.EncodeToString(sum[:3]), Send: send, Unknown: scheme == unknownScheme}
}

// unknownScheme is in the name of a target whose line of urls_file is not a URL of a
// known service: a password, for example.
const unknownScheme = "unknown"

// schemeOf returns the service that a URL names, such as "ntfy" or "generic".
func schemeOf(raw string) string {
	scheme, _, isURL := strings.Cut(raw, "://")
	service, _, _ := strings.Cut(scheme, "+") // generic+https
	if router, err := shoutrrr.CreateSender(); err == nil && isURL && slices.Contains(router.ListServices(), service) {
		return service
	}
	return unknownScheme
}

func send(raw, scheme string, m Message) error {
	if scheme == unknownScheme {
		return errors.New("a line of urls_file is not the URL of a known service")
	}
	router, err := shoutrrr.CreateSender()
	if err != nil {
		return scrub(raw, err)
	}
	service, err := router.Locate(raw)
	if err != nil {
		return scrub(raw, err)
	}
	switch s := service.(type) { // services with a transport of their own
	case interface{ GetHTTPClient() *http.Client }:
		c := s.GetHTTPClient()
		t, ok := c.Transport.(*http.Transport)
		if !ok {
			t = newTransport()
		}
		c.Transport = httpclient.Strict(t, maxAnswer)
	case interface{ SetHTTPClient(*http.Client) }:
		t := newTransport()
		if n, ok := service.(*ntfy.Service); ok && n.Config.DisableTLSVerification {
			t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as its URL asks for
		}
		s.SetHTTPClient(httpclient.New(t, httpclient.Bounds{Total: perSend, Answer: maxAnswer}))
	}
	text, params := m.Title+"\n\n"+m.Text, types.Params{}
	switch scheme {
	case "smtp", "ntfy", "gotify", "pushover": // they have a title
		text = m.Text
		params.SetTitle(check.Sanitize(m.Title, 200))
	}
	if err := service.Send(string(plain.Escape([]byte(text))), &params); err != nil {
		return scrub(raw, err)
	}
	return nil
}

// maxAnswer bounds a target's answer, in bytes.
const maxAnswer = 1 << 20

// newTransport uses the proxy of the environment, because notifications may have to leave
// the lab's network.
func newTransport() *http.Transport { return &http.Transport{Proxy: http.ProxyFromEnvironment} }

func newClient() *http.Client {
	return httpclient.New(newTransport(), httpclient.Bounds{Total: perSend, Answer: maxAnswer})
}

// guardLibrary makes the clients of shoutrrr refuse redirects. Most of its services use
// http.DefaultTransport and do not accept another. No other client of this program uses
// http.DefaultTransport.
func guardLibrary() {
	if _, ok := http.DefaultTransport.(*http.Transport); ok {
		http.DefaultTransport = httpclient.Strict(newTransport(), maxAnswer)
	}
}

// scrub returns the error without any part of the URL.
func scrub(raw string, err error) error {
	text := err.Error()
	parts := []string{raw}
	if u, e := url.Parse(raw); e == nil {
		if p, ok := u.User.Password(); ok {
			parts = append(parts, p)
		}
		parts = append(parts, u.User.Username())
		parts = append(parts, strings.Split(u.Path, "/")...)
		for _, values := range u.Query() {
			parts = append(parts, values...)
		}
		parts = append(parts, u.Host)
	}
	for _, p := range parts {
		if len(p) >= 4 {
			text = strings.ReplaceAll(text, p, "…")
			text = strings.ReplaceAll(text, url.QueryEscape(p), "…")
		}
	}
	return errors.New(text)
}

// post sends JSON. Any answer but 2xx is an error.
func post(ctx context.Context, c *http.Client, to string, header http.Header, body any) error {
	b, err := wire.Encode(body)
	if err != nil {
		return fmt.Errorf("encode notification: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(b))
	if err != nil {
		return errors.New("the target's URL is invalid")
	}
	maps.Copy(r.Header, header)
	r.Header.Set("Content-Type", "application/json")
	return do(c, r)
}

func do(c *http.Client, r *http.Request) error {
	res, err := c.Do(r)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return scrub(r.URL.String(), e.Err) // without the URL
	}
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, res.Body) // allows reuse of the connection
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode)) // without the body, which may contain anything
	}
	return nil
}

// manager is an alert of Alertmanager's API v2.
type manager struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// postable returns the alerts for Alertmanager. An open alert ends in the future, so that
// it resolves by itself if it is not sent again.
func postable(now time.Time, open, over []fleet.Alert) []manager {
	all := []manager{}
	add := func(a fleet.Alert, end time.Time) {
		m := manager{
			Labels: map[string]string{
				"alertname": "cis490_" + strings.ReplaceAll(a.Symptom, "-", "_"), "symptom": a.Symptom, "host": a.Host, "severity": "warning",
			},
			StartsAt: a.Since.UTC(), EndsAt: end.UTC(),
		}
		if a.Detail != "" {
			m.Annotations = map[string]string{
				"summary": a.Host + " " + a.Symptom + ": " + a.Detail, "reason": a.Reason, "reason_code": a.Code, "fix": a.Fix,
			}
		}
		all = append(all, m)
	}
	for _, a := range open {
		add(a, now.Add(stay))
	}
	for _, a := range over {
		add(a, now)
	}
	return all
}

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

// Heartbeat is the name of the target that is asked for after each run.
const Heartbeat = "heartbeat"

// Targets returns those of a config. One that cannot be made is there all the
// same, so that its failure shows.
func Targets(c config.Notify) []Target {
	client := newClient()
	var all []Target
	if c.URLsFile != "" {
		guardLibrary()
		urls, err := readURLs(c.URLsFile)
		unset := c.URLsFile == config.NotifyURLsPath && errors.Is(err, fs.ErrNotExist) // the default
		if err != nil && !unset {
			all = append(all, Target{Name: "urls_file", Always: true, Sync: func(context.Context, time.Time, []fleet.Alert, []fleet.Alert) error { return err }})
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

// Beat returns the target that says that fleet-check ran and that its alerts were
// delivered; false without one.
func Beat(c config.Notify) (Target, bool) {
	if c.HeartbeatURL == "" {
		return Target{}, false
	}
	client := newClient()
	return Target{Name: Heartbeat, Always: true, Last: true, Sync: func(ctx context.Context, _ time.Time, _, _ []fleet.Alert) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HeartbeatURL, nil)
		if err != nil {
			return errors.New("heartbeat_url is no URL")
		}
		return do(client, r)
	}}, true
}

// readURLs reads a URL a line; empty lines and those that begin with # are none.
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

// shout makes a target of a shoutrrr URL. Its name tells two of a kind apart.
func shout(raw string) Target {
	scheme := schemeOf(raw)
	sum := sha256.Sum256([]byte(raw))
	return Target{Name: scheme + "-" + hex.EncodeToString(sum[:3]), Send: func(ctx context.Context, m Message) error {
		ctx, cancel := context.WithTimeout(ctx, perSend)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- send(raw, scheme, m) }() // the library knows no context
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer within %s", scheme, perSend)
		}
	}}
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
	switch s := service.(type) { // those that have a transport of their own
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
	case "smtp", "ntfy", "gotify", "pushover": // those with a headline of their own
		text = m.Text
		params.SetTitle(check.Sanitize(m.Title, 200))
	}
	if err := service.Send(string(plain.Escape([]byte(text))), &params); err != nil {
		return scrub(raw, err)
	}
	return nil
}

// maxAnswer bounds what a target answers, in bytes.
const maxAnswer = 1 << 20

// newTransport uses the proxy that the environment names: a notification may have to
// leave the lab's network.
func newTransport() *http.Transport { return &http.Transport{Proxy: http.ProxyFromEnvironment} }

func newClient() *http.Client {
	return httpclient.New(newTransport(), httpclient.Bounds{Total: perSend, Answer: maxAnswer})
}

// guardLibrary makes the clients of shoutrrr refuse redirects. Most of its services
// use the transport that net/http has for everyone, and offer no way to pass another;
// no client of ours uses that one.
func guardLibrary() {
	if _, ok := http.DefaultTransport.(*http.Transport); ok {
		http.DefaultTransport = httpclient.Strict(newTransport(), maxAnswer)
	}
}

// scrub makes an error fit to show: no part of the URL is left in it.
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

// post sends JSON and wants a 2xx.
func post(ctx context.Context, c *http.Client, to string, header http.Header, body any) error {
	b, err := wire.Encode(body)
	if err != nil {
		return fmt.Errorf("encode notification: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(b))
	if err != nil {
		return errors.New("the target's URL is none")
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
	_, _ = io.Copy(io.Discard, res.Body) // so that the connection can be used again
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode)) // the target's own words may be anything
	}
	return nil
}

// manager is an alert as Alertmanager's API v2 takes it.
type manager struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// postable gives an open alert an end that lies ahead, so that it ends by itself
// when nobody tells it again.
func postable(now time.Time, open, over []fleet.Alert) []manager {
	all := []manager{}
	add := func(a fleet.Alert, end time.Time) {
		m := manager{
			Labels:   map[string]string{"alertname": "cis490_" + strings.ReplaceAll(a.Symptom, "-", "_"), "symptom": a.Symptom, "host": a.Host, "severity": "warning"},
			StartsAt: a.Since.UTC(), EndsAt: end.UTC(),
		}
		if a.Detail != "" {
			m.Annotations = map[string]string{"summary": a.Host + " " + a.Symptom + ": " + a.Detail, "reason": a.Reason, "reason_code": a.Code, "fix": a.Fix}
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

package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/receiver/fleet"
)

// perSend bounds one attempt.
const perSend = 20 * time.Second

// Heartbeat is the name of the target that is asked for after each run.
const Heartbeat = "heartbeat"

// Targets returns those of a config. One that cannot be made is there all the
// same, so that its failure shows.
func Targets(c config.Notify) []Target {
	client := &http.Client{Timeout: perSend}
	var all []Target
	if c.URLsFile != "" {
		urls, err := readURLs(c.URLsFile)
		if err != nil {
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
				b, err := disk.ReadFile(disk.OS{}, c.WebhookTokenFile, disk.Small)
				if err != nil {
					return fmt.Errorf("read webhook token: %w", err)
				}
				header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
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

// Beat returns the target that says that fleet-check ran; false without one.
func Beat(c config.Notify) (Target, bool) {
	if c.HeartbeatURL == "" {
		return Target{}, false
	}
	client := &http.Client{Timeout: perSend}
	return Target{Name: Heartbeat, Always: true, Sync: func(ctx context.Context, _ time.Time, _, _ []fleet.Alert) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HeartbeatURL, nil)
		if err != nil {
			return errors.New("heartbeat_url is no URL")
		}
		return do(client, r)
	}}, true
}

// readURLs reads a URL a line; empty lines and those that begin with # are none.
func readURLs(path string) ([]string, error) {
	b, err := disk.ReadFile(disk.OS{}, path, disk.Small)
	if err != nil {
		return nil, fmt.Errorf("read urls_file: %w", err)
	}
	var urls []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			urls = append(urls, line)
		}
	}
	return urls, nil
}

// shout makes a target of a shoutrrr URL. Its name tells two of a kind apart.
func shout(raw string) Target {
	scheme, _, _ := strings.Cut(raw, ":")
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

func send(raw, scheme string, m Message) error {
	router, err := shoutrrr.CreateSender(raw)
	if err != nil {
		return scrub(raw, err)
	}
	text, params := m.Title+"\n\n"+m.Text, types.Params{}
	switch scheme {
	case "smtp", "ntfy", "gotify", "pushover": // those with a headline of their own
		text = m.Text
		params.SetTitle(m.Title)
	}
	for _, err := range router.Send(text, &params) {
		if err != nil {
			return scrub(raw, err)
		}
	}
	return nil
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
	b, err := json.Marshal(body)
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
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)) // so that the connection can be used again
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s", res.Status)
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

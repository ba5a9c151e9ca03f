package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/episode"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
)

// changing is a receiver whose answers change after some downloads.
type changing struct {
	source
	then []byte
	from int64
}

func (c *changing) Open(ctx context.Context, r catalogue.Row) (io.ReadCloser, error) {
	f, err := c.source.Open(ctx, r)
	if err == nil && c.opened.Load() >= c.from {
		f = io.NopCloser(bytes.NewReader(c.then))
	}
	return f, err
}

// An episode is what its digest says, at each download.
func TestRun_AReceiverThatChanges(t *testing.T) {
	for name, o := range map[string]export.Options{
		"samples":  {Format: export.WebDataset, Limits: episode.FormatLimits()},
		"verified": {Format: export.CSV, Verify: true, Limits: episode.FormatLimits()},
	} {
		c := &changing{from: 2}
		r := c.add(t, "lab-01", "benign", nil)
		other := &source{}
		other.add(t, "lab-01", "benign", func(files map[string]string) { files["events.jsonl"] = "" })
		c.then = other.tarballs[r.Episode]
		o.Source, o.Out = c, t.TempDir()+"/out"
		if m, err := export.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// A list that does not advance, repeats or is not in order ends with an error.
func TestRemote_AListThatDoesNotEnd(t *testing.T) {
	s := fleet(t)
	for name, next := range map[string]func(asked int) catalogue.Page{
		"the same page": func(int) catalogue.Page { return catalogue.Page{Rows: s.rows[:1], Next: "x"} },
		"no rows":       func(int) catalogue.Page { return catalogue.Page{Rows: []catalogue.Row{}, Next: "x"} },
		"back and forth": func(n int) catalogue.Page {
			return catalogue.Page{Rows: s.rows[1-n%2 : 2-n%2], Next: "xy"[n%2 : 1+n%2]}
		},
	} {
		asked := 0
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			b, err := json.Marshal(next(asked))
			if asked++; err == nil {
				_, _ = w.Write(b)
			}
		}))
		t.Cleanup(server.Close)
		transport, _ := server.Client().Transport.(*http.Transport)
		remote, err := export.NewRemote(server.URL, "x", transport)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for _, err = range remote.Rows(ctx, catalogue.Query{}) {
			if err != nil {
				break
			}
		}
		cancel()
		if err == nil || !strings.Contains(err.Error(), "the receiver's list of episodes") {
			t.Errorf("%s: asked %d times: %v", name, asked, err)
		}
	}
}

// A host's words are text in the card.
func TestRun_TheCardHasNoMarkupOfHosts(t *testing.T) {
	s, out := &source{}, t.TempDir()+"/out"
	s.add(t, "lab-01", "benign", nil)
	s.rows[0].Profile, s.rows[0].Class = "a|b <img src=x>", "[x](javascript:y)"
	run(t, export.Options{Source: s, Out: out, Format: export.CSV})
	card, err := os.ReadFile(filepath.Join(out, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a|b", "<img", "[x]("} {
		if strings.Contains(string(card), bad) {
			t.Errorf("the card contains %q", bad)
		}
	}
}

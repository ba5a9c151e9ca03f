package httpclient_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cis490/internal/httpclient"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestNew_FollowsNoRedirect(t *testing.T) {
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		followed := false
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if followed = r.URL.Path == "/else"; !followed {
				w.Header().Set("Location", "http://user:s3cret@"+r.Host+"/else?token=s3cret#x")
				w.WriteHeader(status)
			}
		})
		c := httpclient.New(&http.Transport{}, httpclient.Bounds{})
		_, err := c.Post(url+"/hook", "text/plain", strings.NewReader("body"))
		r, ok := errors.AsType[*httpclient.Redirect](err)
		if !ok || followed || r.Status != status || !strings.HasSuffix(r.Location, "/else") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: followed %t, %v", status, followed, err)
		}
		c.CloseIdleConnections()
	}
}

func TestNew_NotModifiedIsAnAnswer(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	res, err := httpclient.New(&http.Transport{}, httpclient.Bounds{}).Get(url)
	if err != nil || res.StatusCode != http.StatusNotModified {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
}

// TestNew_BoundsTheAnswer: endless, one byte too long, compressed a thousandfold.
func TestNew_BoundsTheAnswer(t *testing.T) {
	const most = 1000
	for name, c := range map[string]struct {
		send func(w http.ResponseWriter)
		err  error
	}{
		"fits":     {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, strings.Repeat("x", most)) }, nil},
		"too long": {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, strings.Repeat("x", most+1)) }, httpclient.ErrTooLarge},
		"endless": {func(w http.ResponseWriter) {
			for {
				if _, err := fmt.Fprint(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}, httpclient.ErrTooLarge},
		"bomb": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
		}, httpclient.ErrTooLarge}, // as it came: 1 MiB of zeros is more than 1000 bytes of gzip
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { c.send(w) })
		res, err := httpclient.New(&http.Transport{}, httpclient.Bounds{Answer: most}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if !errors.Is(err, c.err) || len(b) > most+1 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestNew_InterimAnswersEnd: they count against the limits of header size and time.
func TestNew_InterimAnswersEnd(t *testing.T) {
	ended := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for r.Context().Err() == nil {
			w.WriteHeader(http.StatusProcessing)
		}
	})
	if _, err := httpclient.New(&http.Transport{}, httpclient.Bounds{Total: time.Minute}).Get(url); err == nil {
		t.Error("no error")
	}
	<-ended
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@h:1/a?t=s#f": "https://h:1/a", "smtp://u:p@h": "smtp://h", "": "", "%zz": "", "mailto:secret": "mailto:…",
		"//h/a\u202eb": "//h/a%E2%80%AEb", "https://h/?": "https://h/",
	} {
		if got := httpclient.Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

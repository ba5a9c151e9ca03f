package apidoc_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cis490/internal/apidoc"
)

// TestCheck_CanFail: an answer that matches the document passes, and each way to
// differ is found.
func TestCheck_CanFail(t *testing.T) {
	d, err := apidoc.Open("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const problem = `{"type":"tag:cis490,2026:problem:busy","status":429,"title":"too many requests","fix":"nothing"}`
	for _, c := range []struct {
		name, method, path string
		status             int
		header             http.Header
		body               string
		good               bool
	}{
		{"sound", "GET", "/healthz", 200, nil, `{"status":"ok"}`, true},
		{"an undocumented field", "GET", "/healthz", 200, nil, `{"status":"ok","more":1}`, false},
		{"a field is missing", "GET", "/healthz", 200, nil, `{}`, false},
		{"another status", "GET", "/healthz", 201, nil, `{"status":"ok"}`, false},
		{"another type", "GET", "/healthz", 200, http.Header{"Content-Type": {"text/html"}}, `{"status":"ok"}`, false},
		{"no such path", "GET", "/health", 200, nil, `{"status":"ok"}`, false},
		{"no such method", "POST", "/healthz", 200, nil, `{"status":"ok"}`, false},
		{
			"busy", "PUT", "/v1/episodes/lab-a/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst", 429,
			http.Header{"Content-Type": {"application/problem+json"}, "Retry-After": {"5"}},
			problem, true,
		},
		{
			"busy, for how long?", "PUT", "/v1/episodes/lab-a/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst", 429,
			http.Header{"Content-Type": {"application/problem+json"}},
			problem, false,
		},
		{"no time", "GET", "/v1/alerts", 200, nil, `{"open":[],"fleet_check":"yesterday"}`, false},
	} {
		if c.header == nil {
			c.header = http.Header{"Content-Type": {"application/json"}}
		}
		res := &http.Response{StatusCode: c.status, Header: c.header, Body: io.NopCloser(strings.NewReader(c.body))}
		err := d.Check(httptest.NewRequest(c.method, c.path, nil), res)
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != c.body {
			t.Errorf("%s: the body is %q now, %v", c.name, b, err)
		}
	}
}

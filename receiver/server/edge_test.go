package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"cis490/internal/check"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/server"
)

// TestForwardedFor_IsWhatTheProxyAdded: a caller may send as many of these headers as
// it likes.
func TestForwardedFor_IsWhatTheProxyAdded(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"192.0.2.1"}, "192.0.2.1"},
		{[]string{"203.0.113.9, 192.0.2.1"}, "192.0.2.1"},
		{[]string{"203.0.113.9", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"203.0.113.9, 203.0.113.8", "203.0.113.7,  192.0.2.1 "}, "192.0.2.1"},
		{[]string{"192.0.2.1", ""}, ""},
		{[]string{"192.0.2.1,"}, ""},
		{[]string{"192.0.2.1:4711"}, "192.0.2.1"},
		{[]string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{[]string{"[2001:db8::1]"}, "2001:db8::1"},
		{[]string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{[]string{"fe80::1%eth0"}, "fe80::1"},
		{[]string{"2001:DB8:0::1"}, "2001:db8::1"},
		{[]string{"unknown"}, ""},
		{[]string{"<b>\x1b[31m"}, ""},
		{[]string{strings.Repeat("1", 5000)}, ""},
	} {
		if got := server.ForwardedFor(c.lines); got != c.want {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
}

// TestDocuments_OfAHost: what does not fit the schema is refused, and one host's
// report never makes the aggregate unreadable.
func TestDocuments_OfAHost(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	report := func(inner string) string { return `{"schema":"cis490.doctor/1","checks":[` + inner + `]}` }
	deep := func(n int) string { return strings.Repeat(`{"x":`, n) + "1" + strings.Repeat("}", n) }
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"300 deep":           {`{"schema":"cis490.doctor/1","x":` + deep(300) + `}`, 400},
		"1,000 deep":         {`{"schema":"cis490.doctor/1","x":` + deep(1000) + `}`, 400},
		"9,999 deep":         {`{"schema":"cis490.doctor/1","x":` + deep(9998) + `}`, 400},
		"not UTF-8":          {report("{\"id\":\"a\xff\",\"status\":\"pass\"}"), 400},
		"a key twice":        {report(`{"id":"a","status":"pass","ID":"b"}`), 400},
		"no status":          {report(`{"id":"a","status":"fine"}`), 400},
		"501 checks":         {report(strings.TrimSuffix(strings.Repeat(`{"status":"pass"},`, check.MaxRows+1), ",")), 400},
		"another document":   {`{"hosts":[]}`, 400},
		"a negative figure":  {report(`{"status":"pass","took_ms":-1}`), 400},
		"a figure too large": {report(`{"status":"pass","took_ms":99999999999999999999}`), 400},
		"the year 10000":     {`{"schema":"cis490.doctor/1","at":"9999-12-31T23:59:59-23:59"}`, 400},
		"two documents":      {report("") + report(""), 400},
		"bidi and escapes":   {report(`{"id":"a","status":"fail","title":"\u202e\u001b[31m` + "\u202e\x7f" + `","fix":"\u0000\ud800"}`), 200},
		"an unknown key":     {report(`{"id":"a","status":"pass","new":{"a":[1]}}`), 200},
	} {
		status, text := a.send(t, http.MethodPut, wire.HostHealthPath+"/lab-a", c.body)
		if status != c.status && (c.status != 200 || status != 201) {
			t.Errorf("%s: %d %s", name, status, text)
		}
		if status == 400 && !strings.Contains(text, `"detail":"body: `) {
			t.Errorf("%s: the refusal does not say what and where: %s", name, text)
		}
	}
	a.wholeAggregate(t)
}

// TestDocuments_OfAnOperator: a silence whose end no row can hold.
func TestDocuments_OfAnOperator(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	a.bearer = "s3cret"
	for body, want := range map[string]int{
		`{"until":"9999-12-31T23:59:59-23:59"}`:                           400,
		`{"until":"9999-12-31T23:59:59Z","until":"2999-01-01T00:00:00Z"}`: 400,
		`{"until":"+12345-01-01T00:00:00Z"}`:                              400,
		`{"until":"0000-01-01T00:00:00+23:59"}`:                           400,
		`{"until":"9999-12-31T23:59:59Z","comment":"a\u202eb"}`:           201,
	} {
		status, text := a.send(t, http.MethodPost, wire.AlertsPath+"/lab-a/silent/silence", body)
		if status != want || strings.Contains(text, "\u202e") {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// send sends a body and returns the whole answer.
func (h *host) send(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.r.url(path), strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+h.bearer)
	res, err := h.client.Do(req)
	must(t, err)
	b, err := io.ReadAll(res.Body)
	must(t, err)
	must(t, res.Body.Close())
	return res.StatusCode, string(b)
}

// wholeAggregate fails unless a strict reader takes the document of all hosts.
func (h *host) wholeAggregate(t *testing.T) {
	t.Helper()
	h.bearer = "s3cret"
	status, text := h.send(t, http.MethodGet, wire.HostHealthPath, "")
	var all struct {
		Hosts      []contacts.Snapshot `json:"hosts"`
		Unreadable []string            `json:"unreadable"`
	}
	if err := wire.Decode([]byte(text), &all); status != 200 || err != nil || len(all.Hosts) != 1 || len(all.Unreadable) > 0 {
		t.Errorf("%d, %v: %.300s", status, err, text)
	}
	if strings.ContainsAny(text, "\u202e\x7f\x1b") {
		t.Errorf("hidden characters: %q", text)
	}
}

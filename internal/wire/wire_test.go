package wire_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/wire"
)

func TestAnswers_EachHasAFixAndAnAction(t *testing.T) {
	last, seen := 0, map[wire.Kind]bool{}
	for _, a := range wire.Answers() {
		if a.Kind == "" || a.Title == "" || a.Fix == "" || a.Action == "" {
			t.Errorf("incomplete answer %+v", a)
		}
		if a.Status < last {
			t.Errorf("%s: status %d is out of order", a.Kind, a.Status)
		}
		if seen[a.Kind] {
			t.Errorf("%s is there twice", a.Kind)
		}
		last, seen[a.Kind] = a.Status, true
	}
}

func answer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
}

func TestReadProblem_RoundTrip(t *testing.T) {
	want := wire.NewProblem(wire.Gated, "commit %s is not released", "abc")
	want.HeadCommit = "0123456789012345678901234567890123456789"
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.ReadProblem(answer(412, "application/problem+json; charset=utf-8", string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadProblem_OthersAreNotOurs(t *testing.T) {
	for name, r := range map[string]*http.Response{
		"captive portal": answer(404, "text/html", "<html>log in</html>"),
		"other's type":   answer(404, "application/problem+json", `{"type":"about:blank","status":404}`),
		"status differs": answer(412, "application/problem+json", `{"type":"tag:cis490,2026:problem:malformed","status":400}`),
		"no JSON":        answer(400, "application/problem+json", `{`),
	} {
		if _, err := wire.ReadProblem(r); !errors.Is(err, wire.ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzProblem: what decodes encodes to something that decodes the same.
func FuzzProblem(f *testing.F) {
	b, _ := json.Marshal(wire.NewProblem(wire.Full, "x"))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q wire.Problem
		if json.Unmarshal(b, &p) != nil {
			return
		}
		again, err := json.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &q); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Error(diff)
		}
	})
}

// A receiver built without a commit still talks to hosts.
func TestPong_WithoutAHeadCommit(t *testing.T) {
	b, err := json.Marshal(wire.Pong{Policy: "p"})
	if err != nil {
		t.Fatal(err)
	}
	var p wire.Pong
	if err := json.Unmarshal(b, &p); err != nil || p.Policy != "p" {
		t.Errorf("%s: %v", b, err)
	}
}

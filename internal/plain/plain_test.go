package plain_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"cis490/internal/plain"
)

func TestEscape_MakesHiddenCharactersVisible(t *testing.T) {
	for in, want := range map[string]string{
		"ä € 𝔘 日本\n\tx":             "ä € 𝔘 日本\n\tx",
		"\x1b[31mred\x07":           `\u001b[31mred\u0007`,
		"a\rb\x7f\u0085\u009b":      `a\u000db\u007f\u0085\u009b`,
		"\u202egpj.exe\u202c":       `\u202egpj.exe\u202c`,
		"\u2066x\u2069\u200e\u061c": `\u2066x\u2069\u200e\u061c`,
		"a\u200bb\ufeff\u00ad":      `a\u200bb\ufeff\u00ad`,
		"\u2028\u2029":              `\u2028\u2029`,
		"\U000e0041":                `\udb40\udc41`,
		"\u3164\u115f\ufe0f":        `\u3164\u115f\ufe0f`,
		"\xff\xfea\xe2\x80":         `\ufffd\ufffda\ufffd\ufffd`,
	} {
		if got := string(plain.Escape([]byte(in))); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
	}
}

// FuzzEscape: no hidden character is left, and JSON keeps its value.
func FuzzEscape(f *testing.F) {
	f.Add("a\u202e\\\x1b\xff", 2)
	f.Fuzz(func(t *testing.T, s string, cut int) {
		got := plain.Escape([]byte(s))
		for _, r := range string(got) {
			if unicode.Is(unicode.Cf, r) || unicode.IsControl(r) && r != '\n' && r != '\t' {
				t.Errorf("%q leaves %q", s, r)
			}
		}
		if !utf8.Valid(got) {
			t.Errorf("%q becomes %q", s, got)
		}
		var out bytes.Buffer
		w := plain.NewWriter(&out)
		cut = min(max(cut, 0), len(s))
		_, _ = w.Write([]byte(s[:cut]))
		_, _ = w.Write([]byte(s[cut:]))
		if utf8.ValidString(s) && out.String() != string(got) {
			t.Errorf("%q in two writes is %q, in one %q", s, out.String(), got)
		}
		doc, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var a, b string
		if err := json.Unmarshal(doc, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain.Escape(doc), &b); err != nil || a != b {
			t.Errorf("%q is %q after it was escaped: %v", a, b, err)
		}
	})
}

func TestLine_IsOneLineOfItsLimit(t *testing.T) {
	got := plain.Line(strings.Repeat("a\u202e\n\x1b", 100), 10)
	if want := "a   a   a …"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

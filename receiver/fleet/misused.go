package fleet

import (
	"fmt"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/plain"
)

// misusedFor is how long the alert about a stolen join token lasts after the last
// attempt. A new token for the host replaces the stolen one and resolves the alert.
const misusedFor = 24 * time.Hour

// tokenMisused: a second key tried the host's join token and was refused. One of the two
// machines is not the intended one.
func tokenMisused(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	r := h.Roster
	if r == nil || r.Misused.IsZero() || f.Now.Sub(r.Misused) > misusedFor {
		return Finding{}, false
	}
	return Finding{
		Since:  r.Misused,
		Detail: fmt.Sprintf("its join token was tried by another key, from %s at %s", check.Sanitize(r.MisusedFrom, 60), plain.Time(r.Misused)),
		Reason: Reason{
			Code: "token-stolen", Text: "its join token was stolen, or its disk was copied; the second machine was refused",
			Fix: fixMisused,
		},
	}, true
}

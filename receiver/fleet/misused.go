package fleet

import (
	"fmt"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
)

// misusedFor is how long after the last try a stolen join token is worth an
// alert; a new token for the host, which voids the stolen one, ends it at once.
const misusedFor = 24 * time.Hour

// tokenMisused: the host's join token was tried by a second key. It was refused,
// but one of the two machines is not the one that was meant.
func tokenMisused(f *Facts, _ ident.Host, h *Host) (Finding, bool) {
	r := h.Roster
	if r == nil || r.Misused.IsZero() || f.Now.Sub(r.Misused) > misusedFor {
		return Finding{}, false
	}
	return Finding{
		Since:  r.Misused,
		Detail: fmt.Sprintf("its join token was tried by another key, from %s at %s", check.Sanitize(r.MisusedFrom, 60), stamp(r.Misused)),
		Reason: Reason{
			Code: "token-stolen", Text: "its join token is in other hands, or its disk was copied; the second machine was refused",
			Fix: fixMisused,
		},
	}, true
}

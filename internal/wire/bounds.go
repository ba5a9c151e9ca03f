package wire

import (
	"fmt"

	"cis490/internal/plain"
)

// maxName bounds names that the receiver chooses: store ids and policies.
const maxName = 200

// name returns an error if a name, which is compared, stored and printed, is too long or
// has hidden characters.
func name(key, s string) error {
	if plain.Line(s, maxName) != s {
		return fmt.Errorf("%s: want at most %d visible characters", key, maxName)
	}
	return nil
}

// Bounded returns the figures within the bounds of a document. Sparse files can exceed
// them, and the receiver would reject the ping.
func (q Queue) Bounded() Queue {
	if q.Bytes < 0 || q.Bytes > MaxCount {
		q.Bytes = MaxCount
	}
	return q
}

// Check returns an error if the policy or store id is invalid.
func (p *Pong) Check() error {
	if err := name("policy", p.Policy); err != nil {
		return err
	}
	return name("store_id", p.StoreID)
}

// Check returns an error if the store id is invalid.
func (r *Receipt) Check() error { return name("store_id", r.StoreID) }

// Check returns an error if the store id is invalid, or if there are more episodes than a
// request may have.
func (r *Reconciled) Check() error {
	if len(r.Stored) > MaxPairs {
		return fmt.Errorf("stored: %d episodes, want at most %d", len(r.Stored), MaxPairs)
	}
	return name("store_id", r.StoreID)
}

// Check truncates and cleans the reason.
func (v *Verdict) Check() error {
	v.Reason = plain.Line(v.Reason, 500)
	return nil
}

// Check returns an error if a release key is not a single line.
func (h *AuthorityHealth) Check() error { return keys(h.ReleaseKeys) }

// Check returns an error if a release key is not a single line.
func (a *CertAnswer) Check() error { return keys(a.ReleaseKeys) }

func keys(all []string) error {
	for i, k := range all {
		if err := name(fmt.Sprintf("release_keys[%d]", i), k); err != nil {
			return err
		}
	}
	return nil
}

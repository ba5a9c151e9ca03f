package authority

import (
	"maps"
	"slices"
)

// Routes returns what anyone may ask, ordered.
func (a *Authority) Routes() []string { return slices.Sorted(maps.Keys(a.publicPatterns())) }

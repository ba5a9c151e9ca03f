package authority

import (
	"maps"
	"slices"
)

// Routes returns the sorted routes of the network API.
func (a *Authority) Routes() []string { return slices.Sorted(maps.Keys(a.publicPatterns())) }

//go:build off

package off

// parts names, by the number of the incident, what heals it or names it.
var parts = map[string]without{}

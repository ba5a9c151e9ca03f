package assets

import _ "embed"

//go:embed experiment.toml
var experimentTOML []byte

// Experiment returns the release's own experiment.toml.
func Experiment() []byte { return append([]byte(nil), experimentTOML...) }

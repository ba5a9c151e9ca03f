// Package assets holds the files that are built into the binary: unit templates,
// example configs, the default experiment. It has no logic and imports nothing of the
// project; the tests of the packages that use an asset find its errors, not run time.
package assets

import (
	"embed"
	"io/fs"
)

//go:embed units config ca
var files embed.FS

// Units returns the unit templates: NAME.service.tmpl, NAME.timer.tmpl, and
// parts.tmpl with their common parts.
func Units() fs.FS {
	units, err := fs.Sub(files, "units")
	if err != nil { // impossible: the name is valid
		return files
	}
	return units
}

// Config returns the example config of a role ("lab-host" or "receiver"), nil
// for any other. Keys that a machine must set are REPLACE_ME.
func Config(role string) []byte { return read("config/" + role + ".toml") }

// RootCA returns the certificates, as PEM, that hosts without a pin trust; it may be empty.
func RootCA() []byte { return read("ca/root.pem") }

// ReleaseKeys returns the minisign public keys, one a line, that hosts trust for releases
// if the authority sent none; it may be empty.
func ReleaseKeys() []byte { return read("ca/release-keys") }

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil
	}
	return b
}

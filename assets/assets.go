// Package assets holds the files that are built into the binary: unit templates,
// example configs, the default experiment. It has no logic and imports nothing
// of the project; what is wrong with an asset is found by the tests of who uses
// it, not at run time.
package assets

import (
	"embed"
	"io/fs"
)

//go:embed units config ca
var files embed.FS

// Units returns the unit templates: NAME.service.tmpl, NAME.timer.tmpl, and
// parts.tmpl with what they share.
func Units() fs.FS {
	units, err := fs.Sub(files, "units")
	if err != nil { // the name is valid: cannot be
		return files
	}
	return units
}

// Config returns the example config of a role ("lab-host" or "receiver"), nil
// for any other. Keys that a machine must set hold REPLACE_ME.
func Config(role string) []byte { return read("config/" + role + ".toml") }

// RootCA returns the certificates, as PEM, that are trusted where no pin is
// known; there may be none in it.
func RootCA() []byte { return read("ca/root.pem") }

// ReleaseKeys returns the minisign public keys, one a line, whose releases are
// taken where the authority gave none; there may be none in it.
func ReleaseKeys() []byte { return read("ca/release-keys") }

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil
	}
	return b
}

// Package version identifies this build, for `cis490 version`, the commit header, meta.json
// and the gate.
//
// The Makefile stamps the values into main (-X main.buildVersion, -X main.buildCommit, -X
// main.buildDirty); a plain `go build` falls back to what the Go tool recorded about the
// checkout. A build with neither has no commit, and the receiver would reject its episodes,
// so orchestrate records nothing.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"

	"cis490/internal/ident"
)

// Info describes a build. Commit is empty if it has none.
type Info struct {
	Version string       `json:"version"`
	Commit  ident.Commit `json:"commit"`
	Dirty   bool         `json:"dirty"`
	Go      string       `json:"go"`
	OS      string       `json:"os"`
	Arch    string       `json:"arch"`
}

// Read returns the build's description from the stamped values, or from what the Go tool
// recorded. An invalid commit counts as none.
func Read(version, commit, dirty string) Info {
	info := Info{Version: version, Dirty: dirty == "true", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if commit == "" {
		if build, ok := debug.ReadBuildInfo(); ok {
			for _, s := range build.Settings {
				switch s.Key {
				case "vcs.revision":
					commit = s.Value
				case "vcs.modified":
					info.Dirty = s.Value == "true"
				}
			}
		}
	}
	if c, err := ident.ParseCommit(commit); err == nil {
		info.Commit = c
	}
	if info.Version == "" {
		info.Version = "dev"
		if info.Commit != "" {
			info.Version = "dev-" + string(info.Commit[:12])
		}
	}
	if info.Dirty && !strings.Contains(info.Version, "dirty") { // new files, which git describe ignores
		info.Version += "+dirty"
	}
	return info
}

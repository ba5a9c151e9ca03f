package install

import (
	"fmt"
	"io/fs"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// A setting is a key of a config that names a folder.
type setting struct{ key, path string }

// resolve replaces symlinked folders by their targets in a config that install writes. In
// an existing config, which belongs to the site, a symlink is an error with the value to
// set.
func (p *Plan) resolve(file string, settings ...setting) (changed bool, err error) {
	for _, s := range settings {
		fi, err := p.FS.Lstat(p.at(s.path))
		if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			continue // its step reports other errors
		}
		target, err := disk.Real(p.FS, p.at(s.path))
		if err != nil {
			return false, &config.Error{File: file, Key: s.key, Why: fmt.Sprintf("%q is a dangling symlink: %v", s.path, err)}
		}
		target = strings.TrimPrefix(target, p.Root)
		name := s.key[strings.LastIndexByte(s.key, '.')+1:]
		was, now := fmt.Sprintf("# %s = %q", name, s.path), fmt.Sprintf("%s = %q", name, target)
		content, made := p.writes[file]
		if !made || !strings.Contains(string(content), was) {
			why := fmt.Sprintf("%q is a symlink: set %s = %q, its target", s.path, name, target)
			return false, &config.Error{File: file, Key: s.key, Why: why}
		}
		p.writes[file] = []byte(strings.Replace(string(content), was, now, 1))
		p.say("note     config: %s is a symlink: %s\n", s.path, now)
		changed = true
	}
	return changed, nil
}

// behind returns the target of a symlink in the place of a folder, such as a folder on a
// larger disk; the path itself if it is not a symlink. Package disk checks who made it.
func (p *Plan) behind(path string) string {
	fi, err := p.FS.Lstat(p.at(path))
	if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return path
	}
	real, err := disk.Real(p.FS, p.at(path))
	if err != nil {
		return path
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(real, p.Root), "/")
}

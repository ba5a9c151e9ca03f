package episode

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// The limits of an episode. Pack and Inspect share them, so that each accepts what the
// other does.
const (
	MaxFiles = 10_000
	// MaxBytes is for all files together. It limits sizes, not blocks: a file system that
	// compresses, or has not written yet, has fewer blocks for an honest file, so holes
	// prove nothing and are packed as the zeros they read as.
	MaxBytes = 64 << 30
	maxDepth = 8    // folders above a file; a recorder makes none
	maxName  = 1024 // bytes of a file's name with its folders
)

// tally counts the files of an episode against the limits.
type tally struct {
	files int
	bytes int64
	most  int64 // bytes
}

// add counts a file and returns what is wrong with it, or "".
func (t *tally) add(name string, size int64) string {
	t.files++
	switch {
	case nameFault(name) != "":
		return nameFault(name)
	case t.files > MaxFiles:
		return fmt.Sprintf("is one file more than the limit of %d", MaxFiles)
	case size < 0 || size > t.most-t.bytes:
		return fmt.Sprintf("has %d bytes: the files are larger than the limit of %d", size, t.most)
	}
	t.bytes += size
	return ""
}

// nameFault returns what is wrong with a file's name, or "".
func nameFault(name string) string {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return "is not a path within the episode, in UTF-8"
	case len(name) > maxName:
		return fmt.Sprintf("has a name of more than %d bytes", maxName)
	case strings.Count(name, "/") > maxDepth:
		return fmt.Sprintf("lies in more than %d folders", maxDepth)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has control characters in its name"
	}
	return ""
}

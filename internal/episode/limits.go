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
	// MaxBytes is for all files together. It limits sizes, not blocks: with compression or
	// delayed writes, an honest file has fewer blocks than its size, so holes prove nothing.
	// They are packed as zeros.
	MaxBytes = 64 << 30
	MaxDepth = 8    // folders above a file; a recorder makes none
	maxName  = 1024 // bytes of a file's name with its folders
)

// Limits bound what an episode may unpack to.
type Limits struct {
	Bytes int64
	Files int
	Depth int // folders above a file
}

// FormatLimits returns the limits of every episode. Others can only be lower.
func FormatLimits() Limits { return Limits{MaxBytes, MaxFiles, MaxDepth} }

// tally counts the files of an episode against limits.
type tally struct {
	Limits
	files int
	bytes int64
}

// add counts a file and returns what is wrong with it, or "".
func (t *tally) add(name string, size int64) string {
	t.files++
	switch {
	case nameFault(name, t.Depth) != "":
		return nameFault(name, t.Depth)
	case t.files > t.Files:
		return fmt.Sprintf("is one file more than the limit of %d", t.Files)
	case size < 0 || size > t.Bytes-t.bytes:
		return fmt.Sprintf("has %d bytes: the files are larger than the limit of %d", size, t.Bytes)
	}
	t.bytes += size
	return ""
}

// nameFault returns what is wrong with a file's name, or "".
func nameFault(name string, depth int) string {
	switch {
	case !fs.ValidPath(name) || name == ".":
		return "is not a path within the episode, in UTF-8"
	case len(name) > maxName:
		return fmt.Sprintf("has a name of more than %d bytes", maxName)
	case strings.Count(name, "/") > depth:
		return fmt.Sprintf("lies in more than %d folders", depth)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has control characters in its name"
	}
	return ""
}

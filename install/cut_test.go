package install_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"testing"
	"time"

	"cis490/internal/disk"
)

var osFS = disk.OS{}

var errCut = errors.New("cut off")

// cutOff is the machine's file system until a number of changes was made; then every call
// fails, as for a process that was killed.
type cutOff struct {
	disk.OS
	after, made int
}

func (c *cutOff) change() error {
	c.made++
	if c.made >= c.after {
		return errCut
	}
	return nil
}

func (c *cutOff) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := c.change(); err != nil {
			return nil, err
		}
	}
	return c.OS.OpenFile(name, flag, perm)
}

func (c *cutOff) Rename(oldname, newname string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.OS.Rename(oldname, newname)
}

func (c *cutOff) Remove(name string) error {
	if c.made >= c.after {
		return errCut
	}
	return c.OS.Remove(name)
}

func (c *cutOff) Mkdir(name string, perm fs.FileMode) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.OS.Mkdir(name, perm)
}

func (c *cutOff) SyncDir(name string) error {
	if err := c.change(); err != nil {
		return err
	}
	return c.OS.SyncDir(name)
}

// timeless removes times and random tokens from a tree.
func timeless(tree map[string]string) map[string]string {
	stamp := regexp.MustCompile(` \d{4}-\d\d-\d\d \S+ \S+ \S+( m=\S+)?`)
	out := map[string]string{}
	for path, text := range tree {
		out[path] = stamp.ReplaceAllString(text, "")
		if path == "/etc/cis490/operator" {
			out[path] = "secret"
		}
	}
	return out
}

func relink(path, target string) error {
	return errors.Join(os.Remove(path), os.Symlink(target, path))
}

// replace puts a regular file in the place of whatever is there.
func replace(path, content string) error {
	_ = os.Remove(path)
	return os.WriteFile(path, []byte(content), 0o644)
}

func withTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

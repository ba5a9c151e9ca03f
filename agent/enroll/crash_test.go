package enroll_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/internal/disk"
)

var errPower = errors.New("power is gone")

// cut is a disk that loses power at one of the modifying calls.
type cut struct {
	disk.OS
	left int // calls until then
}

func (c *cut) step() error {
	if c.left--; c.left < 0 {
		return errPower
	}
	return nil
}

type cutFile struct {
	disk.File
	c *cut
}

func (c *cut) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag != 0 {
		if err := c.step(); err != nil {
			return nil, err
		}
	}
	f, err := c.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return cutFile{f, c}, nil
}

// Write loses the second half of what was being written.
func (f cutFile) Write(p []byte) (int, error) {
	if err := f.c.step(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f cutFile) Sync() error {
	if err := f.c.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (c *cut) Rename(a, b string) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.OS.Rename(a, b)
}

func (c *cut) Remove(name string) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.OS.Remove(name)
}

func (c *cut) Mkdir(name string, perm fs.FileMode) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.OS.Mkdir(name, perm)
}

func (c *cut) SyncDir(name string) error {
	if err := c.step(); err != nil {
		return err
	}
	return c.OS.SyncDir(name)
}

// TestCrash_AtEveryStep cuts the power at each step of an enrollment, a renewal
// and a second enrollment. Afterwards the old pair or the new one is in place,
// and the next run ends with credentials that work, from the same key.
func TestCrash_AtEveryStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*lab) // preparation
		force  bool
	}{
		{"enrollment", func(l *lab) { l.join(secret) }, false},
		{"renewal", func(l *lab) { l.join(secret); l.must(false, enroll.Enrolled) }, true},
		{"second enrollment", func(l *lab) {
			l.join(secret)
			l.must(false, enroll.Enrolled)
			l.peer.bound = "" // a new token
			l.join(secret)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := 0
			for done := false; !done; steps++ {
				l := newLab(t)
				c.before(l)
				old := ""
				if strings.Contains(l.names(), client.PairFile) {
					old = l.file(client.PairFile)
				}
				l.fs = &cut{left: steps}
				_, err := l.run(c.force)
				done = err == nil
				if !done && !errors.Is(err, errPower) {
					t.Fatalf("step %d: %v", steps, err)
				}
				if strings.Contains(l.names(), client.PairFile) {
					if now := l.file(client.PairFile); now != old && !l.works() {
						t.Errorf("step %d: neither the old nor the new pair is in place", steps)
					}
				} else if old != "" {
					t.Errorf("step %d: the pair is gone", steps)
				}
				l.fs = disk.OS{}
				if _, err := l.run(c.force); err != nil {
					t.Errorf("step %d: the next run: %v", steps, err)
				}
				if _, err := l.run(false); err != nil || !l.works() {
					t.Errorf("step %d: the credentials do not work (%v)", steps, err)
				}
				if got := l.names(); got != "bearer ca.crt lab-host.pem release-keys" {
					t.Errorf("step %d: files left: %s", steps, got)
				}
			}
			if steps < 15 {
				t.Errorf("only %d steps were cut: does the run use the disk?", steps)
			}
			t.Logf("%d steps", steps)
		})
	}
}

package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
)

// putsDir has a file for each claim, named HOST.EPISODE.SHA256.COMMIT.
const putsDir = "puts"

// grace is how long an object may still appear after the request that sent it failed.
const grace = time.Hour

// claims are the objects that were or are being sent and have no row yet.
type claims struct {
	fs   disk.FS
	dir  string
	sync group

	mu  sync.Mutex
	all map[receiver.Key][]claim
}

type claim struct {
	receiver.Entry           // without size and time
	since          time.Time // time of the last try, or of the start of this process
}

// openClaims reads the claims of the last process, and returns the time of the oldest.
func openClaims(fsys disk.FS, dataDir string, now time.Time) (*claims, time.Time, error) {
	c := &claims{fs: fsys, dir: filepath.Join(dataDir, putsDir), all: map[receiver.Key][]claim{}}
	if err := disk.MkdirAll(fsys, c.dir, 0o750); err != nil {
		return nil, now, err
	}
	entries, err := fsys.ReadDir(c.dir)
	if err != nil {
		return nil, now, err
	}
	oldest := now
	for _, f := range entries {
		host, file, _ := strings.Cut(f.Name(), ".")
		e, ok := parse(host, file)
		if !ok {
			continue
		}
		fi, err := fsys.Lstat(c.path(e))
		if err != nil {
			return nil, now, err
		}
		if fi.ModTime().Before(oldest) {
			oldest = fi.ModTime()
		}
		c.all[e.Key()] = append(c.all[e.Key()], claim{e, now})
	}
	return c, oldest, nil
}

func (c *claims) path(e receiver.Entry) string {
	return filepath.Join(c.dir, string(e.Host)+"."+name(e))
}

// of returns the claims of an episode.
func (c *claims) of(k receiver.Key) []claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all[k])
}

// keys returns the claimed episodes.
func (c *claims) keys() []receiver.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]receiver.Key, 0, len(c.all))
	for k := range c.all {
		keys = append(keys, k)
	}
	return keys
}

// add makes a claim durable. Concurrent calls share a sync.
func (c *claims) add(e receiver.Entry, now time.Time) error {
	f, err := c.fs.OpenFile(c.path(e), os.O_WRONLY|os.O_CREATE, 0o640)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = c.sync.do(func() error { return c.fs.SyncDir(c.dir) })
	}
	if err != nil {
		return fmt.Errorf("write claim: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := slices.DeleteFunc(c.all[e.Key()], func(x claim) bool { return name(x.Entry) == name(e) })
	c.all[e.Key()] = append(mine, claim{e, now})
	return nil
}

// drop removes a claim. After a crash its name may exist again; resolving it finds its row.
func (c *claims) drop(e receiver.Entry) error {
	if err := c.fs.Remove(c.path(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	left := slices.DeleteFunc(c.all[e.Key()], func(x claim) bool { return name(x.Entry) == name(e) })
	if c.all[e.Key()] = left; len(left) == 0 {
		delete(c.all, e.Key())
	}
	return nil
}

// group lets concurrent calls share one call.
type group struct {
	running sync.Mutex
	mu      sync.Mutex
	next    *turn // not started yet
}

type turn struct {
	done chan struct{}
	err  error
}

// do returns the result of a call that started after do was called.
func (g *group) do(call func() error) error {
	g.mu.Lock()
	t := g.next
	first := t == nil
	if first {
		t = &turn{done: make(chan struct{})}
		g.next = t
	}
	g.mu.Unlock()
	if !first {
		<-t.done
		return t.err
	}
	g.running.Lock()
	defer g.running.Unlock()
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	t.err = call()
	close(t.done)
	return t.err
}

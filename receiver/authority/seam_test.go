package authority_test

import (
	"io/fs"
	"strings"
	"sync"

	"cis490/internal/disk"
)

// cutLedger is a disk whose ledgers accept a limited number of rows.
type cutLedger struct {
	disk.OS

	mu      sync.Mutex
	limited bool
	left    int
}

func (c *cutLedger) allow(rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limited, c.left = true, rows
}

func (c *cutLedger) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".jsonl") {
		return f, err
	}
	return cutFile{f, c}, nil
}

type cutFile struct {
	disk.File
	c *cutLedger
}

// Write writes half of the row that is over the limit.
func (f cutFile) Write(p []byte) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.left--; f.c.limited && f.c.left < 0 {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, errFails
	}
	return f.File.Write(p)
}

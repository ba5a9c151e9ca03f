package orchestrate

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"cis490/internal/disk"
	"cis490/internal/experiment"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// counterFile, in episodes/, counts the host's recordings.
const counterFile = ".counter"

// choose returns the profile for a host's n-th recording, by weight. It depends on nothing
// else, so hosts differ without coordination and meta.json explains the choice.
func choose(profiles []experiment.Profile, host ident.Host, n uint64) experiment.Profile {
	sum := sha256.Sum256([]byte(string(host) + "\x00" + strconv.FormatUint(n, 10)))
	var total uint64
	for _, p := range profiles {
		total += uint64(p.Weight)
	}
	at := binary.BigEndian.Uint64(sum[:8]) % total
	for _, p := range profiles {
		if at < uint64(p.Weight) {
			return p
		}
		at -= uint64(p.Weight)
	}
	return profiles[len(profiles)-1] // not reached: at is below the sum of the weights
}

// counter is the number of recordings that this host has begun. It is stored on disk, and a
// number is never reused, even if its recording failed.
type counter struct {
	fsys disk.FS
	path string
	mu   sync.Mutex
}

func (c *counter) next() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n uint64
	b, err := disk.ReadFile(c.fsys, c.path, 64)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("count episodes: %w", err)
	default:
		if n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err != nil {
			return 0, fault.Fix(fmt.Errorf("count episodes: %s holds no number: %q", c.path, b),
				"echo 1000000 | sudo tee "+c.path+"   # any number larger than the last 'counter' in a meta.json of this host")
		}
	}
	n++
	if err := disk.ReplaceBytes(c.fsys, c.path, filePerm, []byte(strconv.FormatUint(n, 10)+"\n")); err != nil {
		return 0, fault.Fix(fmt.Errorf("count episodes: %w", err),
			"ls -ld "+filepath.Dir(c.path)+"   # must be a folder that the user of this service may write")
	}
	return n, nil
}

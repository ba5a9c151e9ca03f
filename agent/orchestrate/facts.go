package orchestrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/experiment"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/wire"
)

const (
	// clockFor is how long a state of the clock is valid. Reading it may start a service.
	clockFor = 10 * time.Minute
	// clockWait bounds one query of the clock's state.
	clockWait = 5 * time.Second
	// maxHashed bounds the size of an input that is hashed.
	maxHashed = 4 << 30
	// maxInputs bounds the inputs of an episode.
	maxInputs = 32
)

// facts are the conditions of a recording that meta.json contains.
type facts struct {
	hardware wire.Hardware

	mu     sync.Mutex
	state  *machine.Clock
	asked  time.Time
	hashed map[string]hashed // by path
}

// hashed is a file's digest, valid while the file is unchanged.
type hashed struct {
	info   fs.FileInfo
	digest ident.Digest
}

func newFacts() *facts {
	return &facts{hardware: machine.ReadHardware("/"), hashed: map[string]hashed{}}
}

// clock returns the state of the host's clock, or nil if unknown.
func (f *facts) clock() *machine.Clock {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked.IsZero() || time.Since(f.asked) > clockFor {
		ctx, cancel := context.WithTimeout(context.Background(), clockWait)
		defer cancel()
		f.state, f.asked = nil, time.Now()
		if c, err := machine.ReadClock(ctx); err == nil {
			f.state = &c
		}
	}
	return f.state
}

// inputs returns the files that a profile names: the program, arguments that are absolute
// paths of files, a machine's kernel, initrd and disk. A file that cannot be read is left
// out; the recording itself reports it.
func (f *facts) inputs(ctx context.Context, p experiment.Profile) []episode.Input {
	var paths []string
	if m := p.Machine; m != nil {
		paths = []string{m.Kernel, m.Initrd, m.Disk}
	} else {
		paths = append([]string{program(p.Command[0])}, p.Command[1:]...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []episode.Input
	for _, path := range paths {
		if in, ok := f.input(ctx, path); ok && len(all) < maxInputs {
			all = append(all, in)
		}
	}
	return all
}

// program returns the path of a command that is found in workloadPath.
func program(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for dir := range strings.SplitSeq(workloadPath, ":") {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// input describes a file. It hashes a file once, and again after a change.
func (f *facts) input(ctx context.Context, path string) (in episode.Input, ok bool) {
	if !filepath.IsAbs(path) || len(path) > 4096 {
		return in, false
	}
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() {
		return in, false
	}
	in = episode.Input{Path: path, Bytes: fi.Size()}
	if h, known := f.hashed[path]; known && unchanged(h.info, fi) {
		in.Digest = h.digest
		return in, true
	}
	if fi.Size() > maxHashed {
		return in, true
	}
	if in.Digest, err = hashFile(ctx, path); err != nil {
		return in, false
	}
	f.hashed[path] = hashed{fi, in.Digest}
	return in, true
}

func unchanged(a, b fs.FileInfo) bool {
	return disk.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && disk.Changed(a).Equal(disk.Changed(b))
}

func hashFile(ctx context.Context, path string) (ident.Digest, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read
	sum := sha256.New()
	for ctx.Err() == nil {
		switch _, err := io.CopyN(sum, file, 8<<20); {
		case errors.Is(err, io.EOF):
			return ident.Digest(hex.EncodeToString(sum.Sum(nil))), nil
		case err != nil:
			return "", err
		}
	}
	return "", ctx.Err()
}

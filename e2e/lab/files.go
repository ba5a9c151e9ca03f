package lab

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Push copies a file of this machine to path on the host, with its permissions.
func (h *Host) Push(local, path string) {
	h.lab.tb.Helper()
	f, err := os.Open(local)
	if err != nil {
		h.lab.tb.Fatalf("lab: push to %s: %v", h.Name, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		h.lab.tb.Fatalf("lab: push to %s: %v", h.Name, err)
	}
	h.put(f, path, info.Mode())
}

// Write writes a file on the host, owned by root, and creates its parent folders. It
// replaces an existing file by a rename, so a running program keeps its file. The host
// may be off.
func (h *Host) Write(path, content string, mode fs.FileMode) {
	h.lab.tb.Helper()
	h.put(strings.NewReader(content), path, mode)
}

// Read returns the content of a file on the host. The host may be off.
func (h *Host) Read(path string) string {
	h.lab.tb.Helper()
	res, err := h.onDisk(nil, `cat -- "$1"`, path)
	if err != nil {
		h.lab.tb.Fatalf("lab: read %s on %s: %v", path, h.Name, err)
	}
	return res.Out
}

func (h *Host) put(content io.Reader, path string, mode fs.FileMode) {
	h.lab.tb.Helper()
	const script = `mkdir -p -- "$(dirname -- "$1")" && cat >"$1.partial" && chmod "$2" "$1.partial" && mv -fT -- "$1.partial" "$1"`
	if _, err := h.onDisk(content, script, path, fmt.Sprintf("%o", mode.Perm())); err != nil {
		h.lab.tb.Fatalf("lab: write %s on %s: %v", path, h.Name, err)
	}
}

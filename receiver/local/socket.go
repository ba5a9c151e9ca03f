package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// AdminSocket returns the socket by which root asks the serve of a data folder.
func AdminSocket(data string) string { return filepath.Join(data, "admin.sock") }

// Listen returns what opens serve's listener: a port or, behind a proxy, a Unix socket
// that the proxy's group may use.
func Listen(fsys disk.FS) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		if network != "unix" {
			return net.Listen(network, address)
		}
		// The socket of a serve that was killed; a living one holds the store's lease.
		if err := fsys.Remove(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listen: %w", err)
		}
		l, err := net.ListenUnix(network, &net.UnixAddr{Name: address, Net: network})
		if err == nil {
			err = disk.Chmod(fsys, address, 0o660)
		}
		if err != nil {
			return nil, fault.Fix(fmt.Errorf("listen: %w", err), "ls -ld "+address+"   # its folder must be this service's, its group the proxy's")
		}
		return l, nil
	}
}

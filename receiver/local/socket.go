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

// AdminSocket returns root's socket of the serve of a data folder.
func AdminSocket(data string) string { return filepath.Join(data, "admin.sock") }

// ReadersSocket returns the socket for those who may only read, in a folder with their group.
func ReadersSocket(data string) string { return filepath.Join(data, "ops", "read.sock") }

// Listen returns a function that opens serve's listener: a port or, behind a proxy, a
// Unix socket for the proxy's group.
func Listen(fsys disk.FS) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		if network != "unix" {
			return net.Listen(network, address)
		}
		// Remove the socket of a killed serve; a running one holds the store's lease.
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

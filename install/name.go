package install

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cis490/internal/fault"
	"cis490/internal/ident"
)

// HostName returns a name for this machine: the given one, or the first label of the
// machine's own.
func HostName(given string) (ident.Host, error) {
	if given != "" {
		h, err := ident.ParseHost(given)
		return h, fault.Exit(err, fault.Usage)
	}
	full, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read this machine's name: %w", err)
	}
	label, _, _ := strings.Cut(full, ".")
	h, err := ident.ParseHost(strings.ToLower(label))
	if err == nil && h == "localhost" {
		err = errors.New("every machine has it")
	}
	if err != nil {
		return "", fault.Exit(fault.Fix(fmt.Errorf("this machine's name %q cannot be a host's: %w", full, err), "--name HOST"), fault.Usage)
	}
	return h, nil
}

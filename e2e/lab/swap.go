package lab

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// swapperPath is the path of the program on a host.
const swapperPath = "/usr/local/lib/cis490-lab-swapper"

// Swapper builds the program that exchanges two names in a loop, and returns its path.
// Each test process builds it once.
func Swapper(tb testing.TB) string {
	tb.Helper()
	path, err := build("swapper", "./e2e/lab/swapper", "-s -w")
	if err != nil {
		tb.Fatalf("lab: build the swapper: %v", err)
	}
	return path
}

// Swap exchanges two names on the host in a loop, as this user, until stop is called. Stop
// restores the names and returns the number of exchanges.
func (h *Host) Swap(user, a, b string) (stop func() (exchanges int)) {
	h.lab.tb.Helper()
	h.Push(Swapper(h.lab.tb), swapperPath)
	unit := fmt.Sprintf("lab-swapper-%d", time.Now().UnixNano())
	out := "/run/" + unit
	h.Run(fmt.Sprintf("systemd-run --quiet --unit=%s --uid=%s --service-type=exec -p StandardOutput=file:%s %s '%s' '%s'",
		unit, user, out, swapperPath, a, b))
	return func() int {
		h.lab.tb.Helper()
		h.Run("systemctl stop " + unit)
		n, err := strconv.Atoi(strings.TrimSpace(h.Read(out)))
		if err != nil {
			h.lab.tb.Fatalf("lab: swapper on %s: %v", h.Name, err)
		}
		return n
	}
}

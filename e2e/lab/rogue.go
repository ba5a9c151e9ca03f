package lab

import (
	"fmt"
	"strconv"
	"strings"
)

const roguePath = "/usr/local/lib/cis490-lab-rogue"

// Rogue records count episodes on the host as the recorder's user, and attacks the shipper
// while it packs them. It returns how often names were exchanged.
func (h *Host) Rogue(episodes string, count int, commit string) (exchanges int) {
	h.lab.tb.Helper()
	path, err := build("rogue", "./e2e/lab/rogue", "-s -w")
	if err != nil {
		h.lab.tb.Fatalf("lab: build the rogue: %v", err)
	}
	h.Push(path, roguePath)
	out := h.Run(fmt.Sprintf("setpriv --reuid=cis490-rec --regid=cis490-rec --clear-groups %s %s %d %s", roguePath, episodes, count, commit))
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		h.lab.tb.Fatalf("lab: rogue on %s: %v", h.Name, err)
	}
	return n
}

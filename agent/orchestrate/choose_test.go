package orchestrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/experiment"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

func profiles() []experiment.Profile {
	return []experiment.Profile{{Name: "a", Weight: 1}, {Name: "b", Weight: 2}, {Name: "c", Weight: 1}}
}

func run(host string, from, n uint64) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(choose(profiles(), ident.Host(host), from+i).Name)
	}
	return b.String()
}

// The n-th choice of a host must be reproducible for years, so these letters may never
// change.
func TestChoose_IsPinned(t *testing.T) {
	if got, want := run("lab-01", 1, 24), "bbbbabacbccaabcaccabcbbb"; got != want {
		t.Errorf("lab-01: %s, want %s", got, want)
	}
}

func TestChoose_KeepsWeightsAndTellsHostsApart(t *testing.T) {
	const n = 4000
	count, same := map[string]int{}, 0
	for i := range uint64(n) {
		p, q := choose(profiles(), "lab-01", i).Name, choose(profiles(), "lab-02", i).Name
		count[p]++
		if p == q {
			same++
		}
	}
	for name, want := range map[string]int{"a": n / 4, "b": n / 2, "c": n / 4} {
		if got := count[name]; got < want*9/10 || got > want*11/10 {
			t.Errorf("%s was chosen %d times of %d, want about %d", name, got, n, want)
		}
	}
	// By chance 1/16 + 1/4 + 1/16 of the choices agree.
	if want := n * 3 / 8; same < want*9/10 || same > want*11/10 {
		t.Errorf("two hosts agree %d times of %d, want about %d", same, n, want)
	}
}

func TestCounter_NeverGivesANumberTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), counterFile)
	for want := range uint64(3) {
		c := counter{fsys: disk.OS{}, path: path} // a restart each time
		if got, err := c.next(); err != nil || got != want+1 {
			t.Errorf("got %d, %v; want %d", got, err, want+1)
		}
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := counter{fsys: disk.OS{}, path: path}
	if n, err := c.next(); err == nil || fault.FixOf(err) == "" {
		t.Errorf("got %d, %v of a file without a number", n, err)
	}
}

func TestSlots_AsManyAsTheHostHasRoomFor(t *testing.T) {
	const gib = 1 << 30
	command := experiment.Profile{Name: "a"}
	guest := experiment.Profile{Name: "b", Machine: &experiment.Machine{CPUs: 4, Memory: 3*gib + gib/2}}
	for _, c := range []struct {
		room     room
		profiles []experiment.Profile
		want     int
	}{
		{room{1, 8 * gib, 9 * gib}, []experiment.Profile{command}, 1},
		{room{2, 8 * gib, 9 * gib}, []experiment.Profile{command}, 1},
		{room{4, 8 * gib, 9 * gib}, []experiment.Profile{command}, 2},
		{room{16, 64 * gib, 9 * gib}, []experiment.Profile{command}, 8},
		{room{16, 3 * gib, 9 * gib}, []experiment.Profile{command}, 3},
		{room{16, 64 * gib, 2 * gib}, []experiment.Profile{command}, 4},
		{room{16, 64 * gib, -gib}, []experiment.Profile{command}, 1},
		{room{64, 0, 9 * gib}, []experiment.Profile{command}, 1},
		{room{16, 64 * gib, 9 * gib}, []experiment.Profile{command, guest}, 3},
		{room{16, 9 * gib, 9 * gib}, []experiment.Profile{guest, command}, 2},
	} {
		if got := c.room.slots(c.profiles); got != c.want {
			t.Errorf("%+v: %d slots, want %d", c.room, got, c.want)
		}
	}
}

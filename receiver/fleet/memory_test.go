package fleet

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk/sickdisk"
	"cis490/receiver/local"
)

// TestMemory_LastWhileBroken: what asks for the last run gets it, and when it was, also
// while the data folder takes nothing, or cannot be read at all.
func TestMemory_LastWhileBroken(t *testing.T) {
	for name, fails := range map[string]func(op string) bool{
		"full": func(op string) bool { return op == "write" || op == "create" },
		"dead": func(string) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			s, d, spare := newScene(t), &sickdisk.Disk{}, t.TempDir()
			s.write(local.IndexFile, row("lab-01", ago(40*time.Minute)))
			b := local.Open(local.Options{FS: d, Dir: s.dir, Spare: spare})
			for i, broken := range []bool{false, true, true, false} {
				d.Fail(nil)
				if broken {
					d.Fail(func(op, path string, _ int64) error {
						if strings.HasPrefix(path, s.dir) && fails(op) {
							return unix.EIO
						}
						return nil
					})
				}
				at, before := now.Add(time.Duration(5*i)*time.Minute), time.Now().Add(-time.Minute)
				if _, err := s.run(at, func(o *Options) { o.Backend, o.Spare = b, b.Spare }); err != nil {
					t.Fatal(err)
				}
				last, err := ReadLast(b)
				if err != nil || !last.At.Equal(at) || !strings.Contains(symptoms(last.Open), "lab-01 silent firing") {
					t.Errorf("run %d: %v: %s: %s", i, err, last.At, symptoms(last.Open))
				}
				if broken != strings.Contains(symptoms(last.Open), DataBroken) {
					t.Errorf("run %d: %s", i, symptoms(last.Open))
				}
				if Ran(b).Before(before) {
					t.Errorf("run %d: ran at %s", i, Ran(b))
				}
			}
		})
	}
}

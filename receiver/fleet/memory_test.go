package fleet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk/sickdisk"
	"cis490/receiver"
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

// TestMemory_UnreadIsNotOverwritten: the last run cannot be read for a while, and the spare
// folder has no copy, as after a boot. Its rows that were not written yet are not lost.
func TestMemory_UnreadIsNotOverwritten(t *testing.T) {
	s, d := newScene(t), &sickdisk.Disk{}
	path := filepath.Join(s.dir, receiver.FleetCheckDoc)
	row := Alert{V: 1, At: now.Add(-time.Hour), Host: "lab-09", Symptom: Silent, State: Resolved, Hour: now.Add(-time.Hour)}
	content, err := json.Marshal(Last{At: row.At, Unwritten: []Alert{row}})
	if err != nil {
		t.Fatal(err)
	}
	s.write(receiver.FleetCheckDoc, string(content))
	b := local.Open(local.Options{FS: d, Dir: s.dir, Spare: t.TempDir()})
	run := func(minute int) error {
		_, err := s.run(now.Add(time.Duration(minute)*time.Minute), func(o *Options) { o.Backend, o.Spare = b, b.Spare })
		return err
	}
	d.Fail(func(op, of string, _ int64) error {
		if op == "read" && of == path {
			return unix.EIO
		}
		return nil
	})
	for minute := range 2 {
		if run(5*minute) == nil {
			t.Error("a run that is not stored succeeds")
		}
	}
	if after, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(after)) != string(content) {
		t.Errorf("it was %s\nand is %s %v", content, after, err)
	}
	d.Fail(nil)
	for minute := 2; minute < 4; minute++ {
		if err := run(5 * minute); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for a, err := range b.Alerts.Since(time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if a.Host == row.Host {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the row was written %d times", n)
	}
}

// TestMemory_ABadSectorWithACopy: a document that cannot be read any more is replaced, if the
// spare folder has a copy.
func TestMemory_ABadSectorWithACopy(t *testing.T) {
	s, d := newScene(t), &sickdisk.Disk{}
	b := local.Open(local.Options{FS: d, Dir: s.dir, Spare: t.TempDir()})
	for minute := range 3 {
		if _, err := s.run(now.Add(time.Duration(minute)*5*time.Minute), func(o *Options) { o.Backend, o.Spare = b, b.Spare }); err != nil {
			t.Fatal(err)
		}
		d.Fail(func(op, of string, _ int64) error {
			if op == "read" && of == filepath.Join(s.dir, receiver.FleetCheckDoc) {
				return unix.EIO
			}
			return nil
		})
	}
}

// TestMemory_ADamagedDocumentIsKept: a last run that cannot be decoded is copied first.
func TestMemory_ADamagedDocumentIsKept(t *testing.T) {
	s := newScene(t)
	s.write(receiver.FleetCheckDoc, "{half")
	if _, err := s.run(now, func(*Options) {}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, receiver.FleetCheckDoc+damaged))
	if err != nil || strings.TrimSpace(string(b)) != "{half" {
		t.Errorf("%s %v", b, err)
	}
}

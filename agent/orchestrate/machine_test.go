package orchestrate_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
)

// bootSector is a whole guest: it reports busy on the second serial port, waits,
// reads a sector of its disk, reports quiet, waits and switches the machine off.
//
//	start: xor ax,ax; mov ds,ax; mov es,ax; sti
//	       mov si,busy; call print; call wait
//	       mov ax,0x0201; mov cx,1; mov dx,0x80; mov bx,0x8000; int 0x13
//	       mov si,quiet; call print; call wait
//	       mov dx,0x604; mov ax,0x2000; out dx,ax   ; ACPI: off
//	halt:  hlt; jmp halt
//	wait:  mov ah,0x86; mov cx,12; mov dx,0x3500; int 0x15; ret
//	print: lodsb; test al,al; jz end; mov ah,al; mov dx,0x2fd
//	full:  in al,dx; test al,0x20; jz full
//	       mov dx,0x2f8; mov al,ah; out dx,al; jmp print
//	end:   ret
//	busy:  "event busy by a boot sector\n\0"   quiet: "event quiet\n\0"
const bootSector = "31c08ed88ec0fbbe547ce82f00e82100b80102b90100ba8000bb0080cd13be717ce81800e80a00" +
	"ba0406b80020eff4ebfdb486b90c00ba0035cd15c3ac84c0741288c4bafd02eca82074fbbaf80288e0eeebe9c3" +
	"6576656e742062757379206279206120626f6f7420736563746f720a006576656e742071756965740a00"

// outAtPowerOff and outAtReset are where bootSector switches off, and what to
// write there to reset the machine instead (port 0xcf9, value 6).
const (
	outAtPowerOff = "ba0406b80020ef"
	outAtReset    = "baf90cb80600ee"
)

func machine(t *testing.T, sector string) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the guest is a PC's")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no QEMU: apt-get install -y --no-install-recommends qemu-system-x86")
	}
	code, err := hex.DecodeString(sector)
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, 1<<20)
	copy(image, code)
	copy(image[510:], "\x55\xaa")
	path := filepath.Join(t.TempDir(), "disk, with a comma.img")
	if err := os.WriteFile(path, image, 0o444); err != nil {
		t.Fatal(err)
	}
	toml := strings.Replace(profile(""), `command = ["/bin/sh", "-c", '''''']`, "", 1)
	toml = strings.ReplaceAll(toml, `"2s"`, `"20s"`)
	toml = strings.Replace(toml, "proc_hz = 20", "proc_hz = 10", 1)
	guest := fmt.Sprintf("[profile.machine]\ndisk = %q\nmemory = \"32MiB\"\n[profile.collectors]\nqmp_hz = 10", path)
	return strings.Replace(toml, "[profile.collectors]", guest, 1)
}

type qmpRow struct {
	Mono    int64  `json:"t_mono_ns"`
	Source  string `json:"source"`
	Status  string `json:"status"`
	Running bool   `json:"running"`
	Balloon int64  `json:"balloon_bytes"`
	Blocks  []struct {
		ReadBytes int64 `json:"read_bytes"`
		Reads     int64 `json:"reads"`
	} `json:"blocks"`
}

func TestOnce_AMachine(t *testing.T) {
	t.Parallel()
	o := options(t, machine(t, bootSector))
	meta, dir := one(t, o)
	if meta.Verdict != episode.Accepted {
		t.Errorf("verdict %s: %s", meta.Verdict, meta.Reason)
	}
	if got, want := phases(t, dir), "clean<start working<busy dormant<quiet"; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	// The last row may be from the moment of its end.
	samples := rows[qmpRow](t, filepath.Join(dir, episode.TelemetryFile("qmp")))
	if len(samples) < 5 || len(samples) != meta.Rows["qmp"] {
		t.Fatalf("%d rows of QMP, meta says %d", len(samples), meta.Rows["qmp"])
	}
	first, last := samples[0], samples[len(samples)-2]
	if first.Mono == 0 || first.Source != "qmp" || !last.Running || last.Status != "running" || last.Balloon != 32<<20 ||
		len(last.Blocks) != 1 || last.Blocks[0].ReadBytes < 1024 {
		t.Errorf("rows of QMP: first %+v, last but one %+v", first, last)
	}
	seen := map[string]bool{}
	for _, r := range rows[processRow](t, filepath.Join(dir, episode.TelemetryFile("proc"))) {
		for _, p := range r.Procs {
			seen[p.Command] = true
		}
	}
	if !seen["qemu-system-x86"] {
		t.Errorf("processes seen: %v", seen)
	}
	if got := uses(t, dir, "shutdown"); got != "" { // one, which ends nothing
		t.Errorf("shutdown of QMP: %q", got)
	}
	if notes := strings.Join(meta.Notes, "; "); !disk.Exists(disk.OS{}, "/dev/kvm") && !strings.Contains(notes, "software emulation") {
		t.Errorf("neither KVM nor a note: %q", notes)
	}
	if _, faults := episode.Verify(os.DirFS(dir)); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
}

// A machine that resets itself would report its phases a second time.
func TestOnce_AMachineThatResetsItself(t *testing.T) {
	t.Parallel()
	meta, dir := one(t, options(t, machine(t, strings.Replace(bootSector, outAtPowerOff, outAtReset, 1))))
	if got, want := phases(t, dir), "clean<start working<busy dormant<quiet failed<failed"; got != want ||
		!strings.Contains(meta.Reason, "guest-reset") {
		t.Errorf("labels %s, want %s; %s", got, want, meta.Reason)
	}
}

func TestOnce_AMachineWhoseFilesAreMissingIsNoEpisode(t *testing.T) {
	t.Parallel()
	o := options(t, machine(t, bootSector))
	if err := os.Remove(o.Experiment.Profiles[0].Machine.Disk); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, o).Once(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "run a machine: open ") || fault.FixOf(err) == "" {
		t.Errorf("error %v", err)
	}
	empty(t, o)
}

func TestOnce_AMachineOfAStrangeDisk(t *testing.T) {
	t.Parallel()
	// It has nothing to boot and waits without end: no event, no phase.
	o := options(t, strings.Replace(machine(t, ""), `"20s"`, `"1s"`, 1))
	meta, dir := one(t, o)
	if got, want := phases(t, dir), "clean<start failed<budget"; got != want || meta.Verdict != episode.Failed {
		t.Errorf("labels %s, want %s", got, want)
	}
	if _, faults := episode.Verify(os.DirFS(dir)); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
}

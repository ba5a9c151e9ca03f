package install_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/install"
)

var update = flag.Bool("update", false, "write the rendered units into the golden files")

// unitVariants are the different machines: besides the plain ones, one with every option
// on, because that pair shows a line break lost in a template.
func unitVariants() map[string]struct {
	role install.Role
	data install.UnitData
} {
	plain := install.UnitData{
		Exec: "/usr/local/bin/cis490", Good: "/opt/cis490/good/cis490",
		DataDir: "/var/lib/cis490/data", CertsDir: "/etc/cis490/certs",
		Store: "/var/lib/cis490", AuthorityDir: "/var/lib/cis490-authority",
		ReceiverRuntime: "cis490-receiver", AuthorityRuntime: "cis490-authority",
	}
	lab := plain
	lab.DoctorCheck = true
	kvm := lab
	kvm.KVM = true
	elsewhere := plain
	elsewhere.Store, elsewhere.AuthorityDir = "/srv/my episodes/100%", "/srv/authority"
	elsewhere.AuthorityRuntime, elsewhere.AuthorityWrites = "", []string{"/srv/sockets"}
	elsewhere.ReceiverWrites = []string{"/srv/proxy"}
	elsewhere.ReceiverLowPort, elsewhere.AuthorityLowPort, elsewhere.DoctorCheck = true, true, true
	return map[string]struct {
		role install.Role
		data install.UnitData
	}{
		"lab-host":           {install.LabHost, lab},
		"lab-host-kvm":       {install.LabHost, kvm},
		"receiver":           {install.Receiver, plain},
		"receiver-elsewhere": {install.Receiver, elsewhere},
	}
}

func TestRender_Golden(t *testing.T) {
	for variant, v := range unitVariants() {
		dir := filepath.Join("testdata", "units", variant)
		if *update {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, unit := range v.role.Units() {
			got, err := install.Render(unit, v.data)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join(dir, unit)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s/%s (go test ./install -update writes it): %s", variant, unit, diff)
			}
		}
	}
}

// TestRender_Systemd runs systemd's own parser, which only warns about what it ignores, and
// its rating of the sandbox: a service that does not run as root may rate at most 2.5; the
// update, which does, at most 4.0.
func TestRender_Systemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	for variant, v := range unitVariants() {
		t.Run(variant, func(t *testing.T) {
			dir := t.TempDir()
			program := filepath.Join(dir, "cis490")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			v.data.Exec, v.data.Good = program, program
			var files []string
			rated := map[string]string{} // at most, times ten
			for _, unit := range v.role.Units() {
				content, err := install.Render(unit, v.data)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(dir, unit)
				if err := os.WriteFile(file, content, 0o644); err != nil {
					t.Fatal(err)
				}
				files = append(files, file)
				switch {
				case bytes.Contains(content, []byte("\nUser=")):
					rated[file] = "25"
				case strings.HasSuffix(unit, ".service"):
					rated[file] = "40"
				}
			}
			out, err := exec.Command(analyze, append([]string{"verify", "--recursive-errors=no", "--man=no"}, files...)...).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			for file, most := range rated {
				out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+most, file).CombinedOutput()
				if err != nil {
					t.Errorf("systemd-analyze security: %v\n%s", err, out)
				}
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				t.Log(lines[len(lines)-1])
			}
		})
	}
}

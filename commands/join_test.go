package commands

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/receiver/authority"
)

// TestJoinScript_OnMachinesAsTheyAre runs the script of token create --out on hosts whose
// name has capitals or dots, that lack curl, or whose /tmp is noexec.
func TestJoinScript_OnMachinesAsTheyAre(t *testing.T) {
	const binary = "#!/bin/sh\necho joined with $(cat)\n"
	sum := sha256.Sum256([]byte(binary))
	made := []authority.Made{{Host: "lab-07", Token: "c490.token"}}
	text := script(config.Receiver{PublicURL: "https://r:1"}, []manifest.Artifact{
		{OS: "linux", Arch: "amd64", Digest: ident.Digest(hex.EncodeToString(sum[:]))},
	}, made)
	for name, c := range map[string]struct {
		host, client string
		noexec       bool
	}{
		"plain":      {"lab-07", "curl", false},
		"capitals":   {"LAB-07", "curl", false},
		"dots":       {"Lab-07.Example.COM", "curl", false},
		"no curl":    {"lab-07", "wget", false},
		"noexec tmp": {"lab-07", "curl", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bin, tmp := filepath.Join(dir, "bin"), filepath.Join(dir, "tmp")
			for _, d := range []string{bin, tmp} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if c.noexec {
				if err := unix.Mount("none", tmp, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { _ = unix.Unmount(tmp, 0) })
			}
			for name, text := range map[string]string{
				"uname":  "case $1 in -n) echo " + c.host + ";; *) echo x86_64;; esac",
				c.client: `while [ $# -gt 1 ]; do case $1 in -o|-O) to=$2;; esac; shift; done; cp "${0%/*}/../binary" "$to"`,
			} {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, tool := range []string{"sh", "mktemp", "rm", "cp", "cat", "chmod", "sha256sum", "tr"} {
				real, err := exec.LookPath(tool)
				if err != nil {
					t.Skip(err)
				}
				if err := os.Symlink(real, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			for path, content := range map[string]string{"binary": binary, "join.sh": text} {
				if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("sh", filepath.Join(dir, "join.sh"))
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + bin, "TMPDIR=" + tmp}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "joined with c490.token") {
				t.Errorf("%v\n%s", err, out)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

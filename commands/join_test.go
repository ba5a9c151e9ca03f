package commands

import (
	"cmp"
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
	made := []authority.CreatedToken{{Host: "lab-07", Token: "c490.token"}}
	text := joinScript(config.Receiver{PublicURL: "https://r:1"}, []manifest.Artifact{
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
			dir, env := fakeMachine(t, binary, c.host, c.client, c.noexec)
			if err := os.WriteFile(filepath.Join(dir, "join.sh"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", filepath.Join(dir, "join.sh"))
			cmd.Dir, cmd.Env = dir, env
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "joined with c490.token") {
				t.Errorf("%v\n%s", err, out)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// fakeMachine makes a folder with the few tools of a new machine: its download client
// brings the given binary. It returns the folder and the environment.
func fakeMachine(t *testing.T, binary, host, client string, noexec bool) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	bin, tmp := filepath.Join(dir, "bin"), filepath.Join(dir, "tmp")
	for _, d := range []string{bin, tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if noexec {
		if err := unix.Mount("none", tmp, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(tmp, 0) })
	}
	for name, text := range map[string]string{
		"uname": "case $1 in -n) echo " + host + ";; *) echo x86_64;; esac",
		"id":    "echo 0",
		client:  `while [ $# -gt 1 ]; do case $1 in -o|-O) to=$2;; esac; shift; done; cp "${0%/*}/../binary" "$to"`,
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
	if err := os.WriteFile(filepath.Join(dir, "binary"), []byte(binary), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, []string{"PATH=" + bin, "TMPDIR=" + tmp}
}

// TestInstallScript_OnMachinesAsTheyAre pipes /install.sh to a shell.
func TestInstallScript_OnMachinesAsTheyAre(t *testing.T) {
	const binary = "#!/bin/sh\necho \"$* with $(cat)\"\n"
	sum := sha256.Sum256([]byte(binary))
	text := installScript(config.Receiver{PublicURL: "https://r:1/"}, []manifest.Artifact{
		{OS: "linux", Arch: "amd64", Digest: ident.Digest(hex.EncodeToString(sum[:]))},
	})
	for name, c := range map[string]struct {
		client, binary, args, cut string
		want                      string
		code                      int
	}{
		"code":        {client: "curl", want: "install lab-host --receiver https://r:1 with \n"},
		"name":        {client: "wget", args: "--name lab-07", want: "install lab-host --receiver https://r:1 --name lab-07 with \n"},
		"token":       {client: "curl", args: "--token token --name x", want: "install lab-host --join - --name x with c490.token\n"},
		"no token":    {client: "curl", args: "--token nowhere", code: 66},
		"usage":       {client: "curl", args: "--tokn x", code: 64},
		"other bytes": {client: "curl", binary: "#!/bin/sh\necho evil\n", code: 69},
		"cut":         {client: "curl", cut: "main \"$@\""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, env := fakeMachine(t, cmp.Or(c.binary, binary), "lab-07", c.client, false)
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte("c490.token\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", append([]string{"-s", "--"}, strings.Fields(c.args)...)...)
			cmd.Dir, cmd.Env = dir, env
			cmd.Stdin = strings.NewReader(text)
			if c.cut != "" {
				cmd.Stdin = strings.NewReader(strings.SplitN(text, c.cut, 2)[0])
			}
			out, err := cmd.Output()
			got := strings.TrimPrefix(string(out), "cis490: OK\n")
			if cmd.ProcessState.ExitCode() != c.code || c.code == 0 && got != c.want {
				t.Errorf("%v: %q, want %q", err, got, c.want)
			}
			if strings.Contains(got, "evil") {
				t.Error("a binary with another digest ran")
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

//go:build e2e

package solo

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestArm64_Receiver runs a whole receiver with the arm64 binary. The output of its token
// create downloads the right binary on each architecture.
func TestArm64_Receiver(t *testing.T) {
	emulator, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		t.Skip("needs qemu-aarch64 (Debian package qemu-user)")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("release"), 0o755))
	for _, arch := range []string{"amd64", "arm64"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.buildVersion=1.0.0 -X main.buildCommit="+commit, "-o",
			at("release/cis490-linux-"+arch), "cis490")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	arm := func(args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		t.Cleanup(cancel)
		return exec.CommandContext(ctx, emulator, append([]string{at("release/cis490-linux-arm64")}, args...)...)
	}
	run := func(cmd *exec.Cmd) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
		}
		return string(out)
	}
	if v := run(arm("version", "--json")); !strings.Contains(v, `"arm64"`) {
		t.Fatalf("version: %s", v)
	}

	port, err := net.Listen("tcp", "127.0.0.1:0") // reserves a port for public_url
	must(t, err)
	address := port.Addr().String()
	must(t, port.Close())
	must(t, os.WriteFile(at("operator"), []byte("secret\n"), 0o600))
	must(t, os.WriteFile(at("rx.toml"), fmt.Appendf(nil, "public_url = \"https://%s\"\nlisten = %[1]q\ndata_dir = %q\noperator_file = %q\n"+
		"[authority]\nlisten = \"127.0.0.1:0\"\ndir = %q\nsocket = %q\n",
		address, at("data"), at("operator"), at("ca"), at("admin.sock")), 0o644))
	must(t, os.MkdirAll(at("data/releases"), 0o755))
	for _, daemon := range []string{"bootstrap", "serve"} {
		cmd := arm(daemon, "--config", at("rx.toml"), "--addr-file", at(daemon))
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s: %s", daemon, log.String())
			}
		})
		(&harness{t: t, log: &bytes.Buffer{}}).waitFor(daemon+" listens", func() bool { _, err := os.Stat(at(daemon)); return err == nil })
	}
	run(arm("release", "sign", "--keys", at("keys"), "--seq", "1", "--version", "1.0.0", "--commit", commit, at("release")))
	run(arm("release", "publish", "--config", at("rx.toml"), at("release")))

	paste := run(arm("token", "create", "lab-01", "--config", at("rx.toml")))
	download, _, ok := strings.Cut(paste, "\n# lab-01, once")
	if !ok {
		t.Fatalf("printed:\n%s", paste)
	}
	for machine, arch := range map[string]string{"x86_64": "amd64", "aarch64": "arm64"} {
		folder := at(machine)
		must(t, os.MkdirAll(folder+"/bin", 0o755))
		must(t, os.WriteFile(folder+"/bin/uname", []byte("#!/bin/sh\necho "+machine+"\n"), 0o755))
		shell := exec.Command("sh", "-ec", download)
		shell.Dir, shell.Env = folder, append(os.Environ(), "PATH="+folder+"/bin:"+os.Getenv("PATH"))
		run(shell)
		want, err := os.ReadFile(at("release/cis490-linux-" + arch))
		must(t, err)
		if got, err := os.ReadFile(folder + "/cis490"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, want the binary for %s: %v", machine, len(got), arch, err)
		}
	}
	if v := run(exec.Command(at("x86_64/cis490"), "version", "--json")); !strings.Contains(v, `"amd64"`) {
		t.Errorf("version of the amd64 machine's binary: %s", v)
	}
}

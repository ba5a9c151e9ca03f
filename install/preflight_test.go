package install

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cis490/internal/fault"
	"cis490/internal/machine"
)

func TestNewEnough(t *testing.T) {
	for printed, refused := range map[string]bool{
		"systemd 247 (247.3-7+deb11u6)\n+PAM +AUDIT": true,
		"systemd 251.4 (251.4)\n":                    true,
		"systemd 252 (252.39-1~deb12u2)\n":           false,
		"systemd 252~rc1 (252~rc1)\n":                false,
		"systemd 257 (257.8-1~deb13u1)\n":            false,
		"systemd v257\n":                             false,
		"":                                           false,
	} {
		if err := newEnough(printed); (err != nil) != refused || refused && fault.FixOf(err) == "" {
			t.Errorf("%q: %v", printed, err)
		}
	}
}

// limits are what a machine may forbid. Each is set in a user namespace of its own, so that
// this machine's limits stay as they are.
const limits = "CIS490_TEST_LIMITS"

func TestNamespaces_AsTheKernelAnswers(t *testing.T) {
	if limit := os.Getenv(limits); limit != "" {
		err := namespaces(t.Context())
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%s is 0: %v", limit, err)
		}
		t.Log("refused: ", err, fault.FixOf(err))
		return
	}
	for limit, fix := range map[string]string{
		"max_user_namespaces": machine.NoUserNamespaces,
		"max_mnt_namespaces":  "sudo sysctl -w user.max_mnt_namespaces=10000",
	} {
		cmd := exec.Command("unshare", "-U", "-r", "sh", "-c",
			"echo 0 >/proc/sys/user/"+limit+" && exec \"$0\" -test.v -test.run TestNamespaces_AsTheKernelAnswers", os.Args[0])
		cmd.Env = append(os.Environ(), limits+"="+limit)
		out, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "TestNamespaces") {
			t.Skipf("user namespaces cannot be limited here: %v: %s", err, out)
		}
		if err != nil || !strings.Contains(string(out), fix) {
			t.Errorf("%s: %v\n%s", limit, err, out)
		}
	}
}

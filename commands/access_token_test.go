package commands_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/fault"
)

// TestAccessToken_Concurrent: commands at the same time do not undo each other, or what an
// older version stored is revoked by none.
func TestAccessToken_Concurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"rx.toml": fmt.Sprintf("public_url = \"https://h:1\"\noperator_file = %q\n", filepath.Join(dir, "operator")), "operator": "x\n",
		"data-tokens.json": `[{"name":"older","sha256":"` + strings.Repeat("a", 64) + `"}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, bool) {
		deadline := time.Now().Add(time.Minute)
		for {
			cmd := exec.Command("cis490", append(args, "--config", filepath.Join(dir, "rx.toml"))...)
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			if cmd.ProcessState.ExitCode() == int(fault.TempFail) && strings.Contains(errs.String(), "run it again") &&
				time.Now().Before(deadline) {
				continue
			}
			if err != nil {
				t.Errorf("%v: %v %s", args, err, &errs)
			}
			return out.String(), err == nil
		}
	}
	var all sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("of-%d", i)
		run("access-token", "create", name)
		all.Go(func() { run("access-token", "revoke", name) })
		all.Go(func() { run("access-token", "create", name+"-next", "--role", "data") })
	}
	all.Go(func() { run("access-token", "revoke", "older") })
	all.Wait()
	list, _ := run("access-token", "list")
	for i := range 8 {
		if strings.Contains(list, fmt.Sprintf("of-%d ", i)) || !strings.Contains(list, fmt.Sprintf("of-%d-next ", i)) {
			t.Errorf("of-%d is there, or its next is not:\n%s", i, list)
		}
	}
	if err := os.Remove(filepath.Join(dir, "access-tokens.json")); err != nil {
		t.Fatal(err)
	}
	if list, _ := run("access-token", "list"); strings.Contains(list, "older") {
		t.Errorf("a revoked token of an older version is back:\n%s", list)
	}
}

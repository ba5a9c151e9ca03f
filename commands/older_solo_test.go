//go:build solo

package commands_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// beforeBackend is the last commit before receiver.Backend.
const beforeBackend = "fa76839bc07ac0bee618fa77981b981875360596"

// TestOlder_Backward lets the version before receiver.Backend open the files of this one,
// as after a rollback.
func TestOlder_Backward(t *testing.T) {
	for _, tool := range []string{"git", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	if exec.Command("git", "cat-file", "-e", beforeBackend).Run() != nil {
		t.Skip("this clone does not have commit " + beforeBackend + ": run git fetch --unshallow")
	}
	old := buildOlder(t)
	t.Run("its own files", func(t *testing.T) { older(t, unpackOlder(t), "read.sh", old) })
	t.Run("files of this version", func(t *testing.T) {
		dir := t.TempDir()
		older(t, dir, "write.sh", "cis490")
		older(t, dir, "read.sh", old)
	})
}

// buildOlder builds the older version with the commit of the tests, so that the gate
// accepts episodes of both versions.
func buildOlder(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	path := filepath.Join(tree, "cis490-older")
	script := "git archive " + beforeBackend + " | tar -x -C " + tree + " && cd " + tree +
		" && go build -trimpath -buildvcs=false -o " + path +
		" -ldflags '-X main.buildVersion=1.2.3-test -X main.buildCommit=" + testCommit + "' ."
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = ".." // git archive takes the folder of the working directory alone
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", beforeBackend, err, out)
	}
	return path
}

package install

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSudoFinds: where sudo has a path of its own without our command's folder, install
// says how to call it, and how to change that.
func TestSudoFinds(t *testing.T) {
	script := func(path string) string {
		return "#!/bin/sh\nshift\nPATH=" + path + " exec \"$@\"\n"
	}
	for name, c := range map[string]struct {
		sudo string
		note bool
	}{
		"looks there":      {script("BIN:/usr/bin:/bin"), false},
		"looks elsewhere":  {script("/usr/bin:/bin"), true},
		"not for root":     {"#!/bin/sh\nexit 1\n", false},
		"is not installed": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bin := filepath.Join(dir, "bin")
			for path, content := range map[string]string{
				filepath.Join(dir, "sudo"): strings.Replace(c.sudo, "BIN", bin, 1), filepath.Join(bin, nameOfUs): "#!/bin/sh\n",
			} {
				if content == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			var out bytes.Buffer
			p := &Plan{Options: Options{Out: &out}}
			p.sudoFinds(t.Context())
			got := out.String()
			if (got != "") != c.note || c.note && (!strings.Contains(got, "sudo /usr/local/bin/cis490") || !strings.Contains(got, "secure_path")) {
				t.Errorf("%q", got)
			}
		})
	}
}

package install

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/internal/config"
	"cis490/internal/disk"
)

// TestPurgeCommand_NamesOwnFolders: rm asks for no owner, so a data_dir of the site is left out.
func TestPurgeCommand_NamesOwnFolders(t *testing.T) {
	const users = "; for u in cis490-rec cis490; do sudo userdel $u; done"
	for name, c := range map[string]struct{ conf, want string }{
		"default": {"", "sudo rm -r /etc/cis490 /var/lib/cis490/data" + users},
		"the site": {
			"host = \"lab-01\"\ndata_dir = \"/srv\"\n[receiver]\nurl = \"https://rx:8443\"\n[authority]\nurl = \"https://rx:8444\"\n",
			"sudo rm -r /etc/cis490" + users,
		},
	} {
		root := t.TempDir()
		if c.conf != "" {
			path := filepath.Join(root, config.LabHostPath)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.conf), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		u := &uninstall{}
		u.Role, u.Root, u.FS = LabHost, root, disk.OS{}
		if got := u.purgeCommand(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

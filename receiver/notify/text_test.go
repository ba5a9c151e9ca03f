package notify

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadURLs_AsWindowsSavesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(path, []byte("\ufeffntfy://a/b\r\n# c\r\ngeneric://d\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readURLs(path)
	if diff := cmp.Diff([]string{"ntfy://a/b", "generic://d"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

package web

import (
	"testing"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver"
	storage "cis490/receiver/local"
)

// overtaken are documents that another receiver replaces before each replacement.
type overtaken struct {
	receiver.Docs
	other func()
}

// Replace lets the other receiver write first.
func (o *overtaken) Replace(name, version string, content []byte) error {
	if other := o.other; other != nil {
		o.other = nil
		other()
	}
	return o.Docs.Replace(name, version, content)
}

// TestNotes_TwoReceivers: two operators write about two hosts at two receivers at the same moment.
func TestNotes_TwoReceivers(t *testing.T) {
	docs := &overtaken{Docs: storage.Folder(disk.OS{}, t.TempDir())}
	a, b := &notebook{docs: docs}, &notebook{docs: docs}
	for _, n := range []*notebook{a, b} {
		if _, err := n.all(); err != nil {
			t.Fatal(err)
		}
	}
	docs.other = func() {
		if err := b.put("lab-02", hostNotes{Note: "two"}, ""); err != nil {
			t.Error(err)
		}
	}
	if err := a.put("lab-01", hostNotes{Note: "one"}, ""); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*notebook{a, b} {
		all, err := n.all()
		if err != nil {
			t.Fatal(err)
		}
		for h, want := range map[ident.Host]string{"lab-01": "one", "lab-02": "two"} {
			if all[h].Note != want {
				t.Errorf("%s: %q, want %q", h, all[h].Note, want)
			}
		}
	}
}

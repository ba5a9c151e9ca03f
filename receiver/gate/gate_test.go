package gate_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cis490/internal/ident"
	"cis490/receiver/gate"
)

func commit(c string) ident.Commit { return ident.Commit(strings.Repeat(c, 40)) }

func write(t *testing.T, path, gateTable string) {
	t.Helper()
	content := "public_url = \"https://rx:8443\"\n[gate]\n" + gateTable
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil { // another inode: seen at once
		t.Fatal(err)
	}
}

func TestGate_FollowsConfigAndReleases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver.toml")
	var released []ident.Commit
	var broken error
	g := gate.New(gate.Options{
		Own: commit("a"), Path: path, Log: slog.New(slog.DiscardHandler),
		Released: func() ([]ident.Commit, error) { return released, broken },
	})
	if _, err := g.Judge(commit("a")); !errors.Is(err, gate.ErrNotLoaded) {
		t.Errorf("before any load: %v", err)
	}
	g.Refresh() // there is no file yet
	if _, err := g.Judge(commit("a")); !errors.Is(err, gate.ErrNotLoaded) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file, want both that there is no verdict and why: %v", err)
	}
	steps := []struct {
		name   string
		change func()
		want   string // which of a to e are accepted
	}{
		{"own alone", func() { write(t, path, "") }, "a"},
		{"extra", func() { write(t, path, `extra_commits = ["`+string(commit("b"))+`"]`) }, "ab"},
		{"broken edit keeps the last", func() { write(t, path, `extra_commits = ["xyz"`) }, "ab"},
		{"mended", func() { write(t, path, `extra_commits = ["`+string(commit("c"))+`"]`) }, "ac"},
		{"release", func() { released = []ident.Commit{commit("d")} }, "acd"},
		{"releases unreadable", func() { released, broken = nil, errors.New("disk") }, "acd"},
		{"blocked wins", func() {
			broken, released = nil, []ident.Commit{commit("d")}
			write(t, path, `blocked_commits = ["`+string(commit("a"))+`"]`)
		}, "d"},
		{"file gone keeps the last", func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "d"},
		{"disabled", func() { write(t, path, "enabled = false") }, "abcde"},
	}
	for _, s := range steps {
		s.change()
		g.Refresh()
		got := ""
		for _, c := range "abcde" {
			v, err := g.Judge(commit(string(c)))
			if err != nil {
				t.Fatal(err)
			}
			if v.Accepted {
				got += string(c)
			} else if v.Reason == "" {
				t.Errorf("%s: refused without a reason", s.name)
			}
			if v.HeadCommit != commit("a") {
				t.Errorf("%s: head is %q", s.name, v.HeadCommit)
			}
		}
		if got != s.want {
			t.Errorf("%s: accepted %q, want %q", s.name, got, s.want)
		}
	}
}

func TestGate_NoCommitIsNeverAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver.toml")
	write(t, path, "")
	g := gate.New(gate.Options{Path: path, Log: slog.New(slog.DiscardHandler)})
	g.Refresh()
	if v, err := g.Judge(""); err != nil || v.Accepted {
		t.Errorf("verdict on no commit: %+v, %v", v, err)
	}
}

package commands_test

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/version"
	"cis490/receiver/store"
)

// TestUnits_StartWhatTheProgramKnows compares units and command line: what a unit starts
// must be a subcommand, with its flags and values.
func TestUnits_StartWhatTheProgramKnows(t *testing.T) {
	exec := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.+)$`)
	data := install.UnitData{
		Exec: "/cis490", Good: "/cis490", DataDir: "/data", CertsDir: "/certs",
		Store: "/store", AuthorityDir: "/authority",
	}
	for _, role := range []install.Role{install.LabHost, install.Receiver} {
		for _, unit := range role.Units() {
			content, err := install.Render(unit, data)
			if err != nil {
				t.Fatal(err)
			}
			starts := exec.FindAllStringSubmatch(string(content), -1)
			if strings.HasSuffix(unit, ".service") != (len(starts) == 1) {
				t.Errorf("%s starts %d commands", unit, len(starts))
			}
			for _, s := range starts {
				args := append(strings.Fields(s[2]), "--help")
				if out, errOut, code := run(t, args...); code != 0 || errOut != "" || !strings.Contains(out, "cis490 "+args[0]) {
					t.Errorf("%s: cis490 %s: exit code %d, %s", unit, s[2], code, errOut)
				}
			}
		}
	}
}

// TestUnits_ReceiverRemembersItsStore: serve may write the note of its store, and starts
// after the disk with the data; fleet-check, which alerts if that disk is missing, starts
// without it and has another folder to write to.
func TestUnits_ReceiverRemembersItsStore(t *testing.T) {
	data := install.UnitData{Exec: "/cis490", Good: "/cis490", Store: "/store", AuthorityDir: "/authority"}
	for unit, want := range map[string][]string{
		"cis490-receiver.service":     {"\nRequiresMountsFor=/store\n", "\nReadWritePaths=/store -" + store.KnownDir(config.ReceiverPath) + "\n"},
		"cis490-bootstrap.service":    {"\nRequiresMountsFor=/authority\n"},
		"cis490-fleet-health.service": {"\nReadWritePaths=-/store\n", "\nRuntimeDirectory=", "\nRuntimeDirectoryPreserve=yes\n"},
	} {
		content, err := install.Render(unit, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(string(content), line) {
				t.Errorf("%s lacks %q", unit, line)
			}
		}
		if unit == "cis490-fleet-health.service" && strings.Contains(string(content), "\nRequiresMountsFor=") {
			t.Errorf("%s waits for what it alerts of", unit)
		}
	}
	dir := t.TempDir()
	p, err := install.New(install.Options{
		Role: install.Receiver, Root: dir, Binary: os.Args[0], PublicURL: "https://collector.lab:8443", Out: io.Discard,
		Build: version.Info{Version: "1.0.0", OS: "linux", Arch: "amd64"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, store.KnownDir(config.ReceiverPath))); err != nil || !fi.IsDir() {
		t.Errorf("install makes no folder for it: %v", err)
	}
}

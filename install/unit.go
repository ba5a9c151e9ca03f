package install

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
	"unicode"

	"cis490/assets"
)

// UnitData is the input of the unit templates.
type UnitData struct {
	Exec string // the command, /usr/local/bin/cis490
	Good string // the last version that passed its trial, /opt/cis490/good/cis490

	DataDir, CertsDir string // lab host
	KVM               bool   // this machine has the group kvm

	Store        string // the receiver's data_dir
	AuthorityDir string
	// The folders of sockets. systemd makes folders below /run (the path is then relative);
	// others only become writable.
	ReceiverRuntime, AuthorityRuntime string
	ReceiverWrites, AuthorityWrites   []string
	ReceiverLowPort, AuthorityLowPort bool // the port is below 1024

	DoctorCheck bool // this machine has cis490-doctor-check
}

// Render returns the unit file with the given name, such as "cis490-shipper.service". It
// depends only on its arguments.
func Render(name string, data UnitData) ([]byte, error) {
	file := name + ".tmpl"
	t, err := template.New(file).
		Option("missingkey=error").
		Funcs(template.FuncMap{"path": quotePath}).
		ParseFS(assets.Units(), "parts.tmpl", file)
	if err != nil {
		return nil, fmt.Errorf("read unit template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("render unit %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// quotePath joins path elements and quotes the result for a unit file.
func quotePath(elements ...string) (string, error) {
	path := filepath.Join(elements...)
	if path == "" {
		return "", fmt.Errorf("path is empty")
	}
	if strings.ContainsFunc(path, unicode.IsControl) {
		return "", fmt.Errorf("path %q has a control character", path)
	}
	path = strings.ReplaceAll(path, "%", "%%")
	if !strings.ContainsAny(path, " \"'\\;$") {
		return path, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`, nil
}

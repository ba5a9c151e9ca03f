package sim

import (
	"fmt"
	"path/filepath"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/receiver/fleet"
)

// hostConfig is a host's config file.
const hostConfig = hostRoot + config.LabHostPath

// mistypes are faults of a person who edits a host's config, and restarts its daemons.
func mistypes() map[string]Kind {
	edit := func(text func(h *Host, n int64) string) func(*World, *Machine, Fault) {
		return func(w *World, m *Machine, f Fault) {
			h := w.hosts[f.Who%len(w.hosts)]
			if err := h.configure(text(h, f.N)); err != nil {
				w.trace(m.name, "config not written: %v", err)
			}
			m.restartDaemons()
		}
	}
	wrong := func(h *Host, n int64) string {
		return pick(n, "host = "+h.name+"\n", h.settings("receivr", h.name), h.settings("receiver", "lab-99"))
	}
	right := func(h *Host, _ int64) string { return h.settings("receiver", h.name) }
	silence := []string{fleet.Silent, fleet.DoctorFailing, fleet.Gone, fleet.NeverReported}
	return map[string]Kind{"host-typo": {Want: silence, Often: 3, Most: 6 * time.Hour, start: edit(wrong), end: edit(right)}}
}

// settings is the config file of a host.
func (h *Host) settings(receiver, name string) string {
	return fmt.Sprintf("host = %q\n[receiver]\nurl = \"https://%[2]s:8443\"\n[authority]\nurl = \"https://%[2]s:8444\"\n", name, receiver)
}

// configure writes the config file.
func (h *Host) configure(text string) error {
	fsys := h.person().fs
	if err := disk.MkdirAll(fsys, filepath.Dir(hostConfig), 0o755); err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, hostConfig, 0o644, []byte(text))
}

// load reads the config as each program does when it starts. The simulator sets folders and
// intervals.
func (h *Host) load(p *Proc) (config.LabHost, error) {
	b, err := readFile(p.fs, hostConfig)
	if err != nil {
		return config.LabHost{}, err
	}
	known := h.parsed.Load()
	if known == nil || known.text != string(b) {
		known = &parsed{text: string(b)}
		known.conf, _, known.err = config.ParseLabHost(hostConfig, b)
		h.parsed.Store(known)
	}
	c := known.conf
	c.DataDir, c.CertsDir = hostData, hostCerts
	c.Ship.PingEvery *= config.Duration(h.w.pace)
	c.Ship.ScanEvery *= config.Duration(h.w.pace)
	return c, known.err
}

// parsed is a config file and its content. Parsing it for each process would take long.
type parsed struct {
	text string
	conf config.LabHost
	err  error
}

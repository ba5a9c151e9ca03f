package install

import (
	"io/fs"
	"path/filepath"

	"cis490/internal/config"
)

// labHost returns the steps of a lab host.
func (p *Plan) labHost() ([]step, error) {
	if err := p.loadLabHost(); err != nil {
		return nil, err
	}
	units, err := p.units(p.labHostData())
	if err != nil {
		return nil, err
	}
	data := func(name string) string { return filepath.Join(p.lab.DataDir, name) }
	var steps []step
	if !p.image() {
		steps = append(steps, p.users(nil, nameOfUs, recorder))
	}
	steps = append(steps,
		p.ensure("folders",
			folder{configDir, root, 0o755},
			folder{p.lab.CertsDir, ours, 0o755},
			folder{p.lab.DataDir, ours, 0o755},
			// Files that the recorder creates here get the shipper's group (setgid).
			folder{data("episodes"), owner{recorder, nameOfUs}, 0o770 | fs.ModeSetgid},
			// The recorder reads how full the outbox is.
			folder{data("outbox"), ours, 0o755},
			folder{data("shipped"), ours, 0o750},
			folder{data("quarantine"), ours, 0o750},
		),
		p.binary(),
		p.links(),
		p.config(config.LabHostPath),
	)
	if p.Token != "" {
		steps = append(steps, p.joinToken())
	}
	steps = append(steps, p.mark(), units)
	return append(steps, p.running(config.LabHostPath, p.enrollment())...), nil
}

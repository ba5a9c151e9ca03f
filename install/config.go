package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"

	"cis490/assets"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// loadLabHost reads the lab host's config, or makes it from the join token.
func (p *Plan) loadLabHost() error {
	content, err := disk.ReadFile(p.FS, p.at(config.LabHostPath), maxText)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Token == "":
		return fault.Exit(fault.Fix(errors.New(config.LabHostPath+" does not exist and no join token was given"),
			"sudo cis490 token create HOST   # on the receiver: prints the command to paste here"), fault.Usage)
	case errors.Is(err, fs.ErrNotExist):
		name := p.token.Host
		if p.token.Pattern != "" || p.Name != "" {
			if name, err = HostName(p.Name); err != nil {
				return err
			}
		}
		if !p.token.For(name) {
			return fault.Exit(fault.Fix(fmt.Errorf("the join token is for %s, this machine would be %s", p.token.Name(), name),
				"--name HOST   # a name that fits"), fault.Usage)
		}
		if own, err := HostName(""); err == nil && own != name && !p.image() {
			p.say("note     this machine is called %s; it joins as %s\n", own, name)
		}
		content = fill(assets.Config(string(LabHost)), string(name), p.token.Receiver, p.token.Authority)
		p.writes[config.LabHostPath] = content
	case err != nil:
		return err
	}
	var unknown []*config.Error
	p.lab, unknown, err = config.ParseLabHost(config.LabHostPath, content)
	if err := errors.Join(err, p.refuseUnknown(unknown)); err != nil {
		return wrong(config.LabHostPath, err)
	}
	if p.Name != "" && p.Name != p.lab.Host {
		err := fmt.Errorf("this machine is the host %s already; --name %s is for the first install", p.lab.Host, p.Name)
		return fault.Exit(fault.Fix(err, "run it again without --name"), fault.Usage)
	}
	again, err := p.resolve(config.LabHostPath, setting{"data_dir", p.lab.DataDir}, setting{"certs_dir", p.lab.CertsDir})
	if again && err == nil {
		p.lab, _, err = config.ParseLabHost(config.LabHostPath, p.writes[config.LabHostPath])
	}
	if err != nil {
		return wrong(config.LabHostPath, err)
	}
	return wrong(config.LabHostPath, errors.Join(
		p.sameAsToken(),
		p.lasting(p.lab.DataDir),
		visible(config.LabHostPath, "data_dir", p.lab.DataDir),
		visible(config.LabHostPath, "certs_dir", p.lab.CertsDir)))
}

// sameAsToken rejects a join token for another host or fleet than the config's, because
// only a person can tell which of them is wrong.
func (p *Plan) sameAsToken() error {
	if p.Token == "" {
		return nil
	}
	var all []error
	if !p.token.For(ident.Host(p.lab.Host)) {
		all = append(all, &config.Error{
			File: config.LabHostPath, Key: "host", Why: fmt.Sprintf("is %q, but the join token is for %q", p.lab.Host, p.token.Name()),
		})
	}
	for _, v := range []struct{ key, config, token string }{
		{"receiver.url", p.lab.Receiver.URL, p.token.Receiver},
		{"authority.url", p.lab.Authority.URL, p.token.Authority},
	} {
		if strings.TrimSuffix(v.config, "/") != strings.TrimSuffix(v.token, "/") {
			all = append(all, &config.Error{
				File: config.LabHostPath, Key: v.key,
				Why: fmt.Sprintf("is %q, but the join token is for %q", v.config, v.token),
			})
		}
	}
	return errors.Join(all...)
}

// loadReceiver reads the receiver's config, or makes it from the public URL.
func (p *Plan) loadReceiver() error {
	content, err := disk.ReadFile(p.FS, p.at(config.ReceiverPath), maxText)
	made, missing := false, errors.Is(err, fs.ErrNotExist)
	switch {
	case p.Invitation != nil && (err == nil || missing):
		if content, err = p.join(content, missing); err != nil {
			return err
		}
		if missing {
			p.writes[config.ReceiverPath] = content
		}
	case missing && p.PublicURL == "":
		return fault.Exit(fault.Fix(errors.New(""+config.ReceiverPath+" does not exist and no public URL was given"),
			"sudo cis490 install receiver --public-url https://NAME:8443"), fault.Usage)
	case missing:
		made = true
		content = fillReceiver(p.PublicURL)
		p.writes[config.ReceiverPath] = content
	case err != nil:
		return err
	}
	var unknown []*config.Error
	p.rx, unknown, err = config.ParseReceiver(config.ReceiverPath, content)
	err = errors.Join(err, p.refuseUnknown(unknown))
	if err != nil && made {
		return fault.Exit(fault.Fix(fmt.Errorf("public URL %q: %w", p.PublicURL, err), "--public-url https://NAME:8443"), fault.Usage)
	}
	if err != nil {
		return wrong(config.ReceiverPath, err)
	}
	again, err := p.resolve(config.ReceiverPath, setting{"data_dir", p.rx.DataDir}, setting{"authority.dir", p.rx.Authority.Dir})
	if again && err == nil {
		p.rx, _, err = config.ParseReceiver(config.ReceiverPath, p.writes[config.ReceiverPath])
	}
	if err != nil {
		return wrong(config.ReceiverPath, err)
	}
	var all []error
	if p.PublicURL != "" && strings.TrimSuffix(p.PublicURL, "/") != strings.TrimSuffix(p.rx.PublicURL, "/") {
		all = append(all, &config.Error{
			File: config.ReceiverPath, Key: "public_url", Why: fmt.Sprintf("is %q, but --public-url is %q", p.rx.PublicURL, p.PublicURL),
		})
	}
	for key, socket := range map[string]string{"authority.socket": p.rx.Authority.Socket, "tls.socket": p.rx.TLS.Socket} {
		if runtime, writes := socketFolder(socket); runtime == "" && writes[0] == "/run" {
			all = append(all, &config.Error{
				File: config.ReceiverPath, Key: key, Why: fmt.Sprintf("%q needs its own folder, such as /run/cis490-authority", socket),
			})
		}
	}
	return wrong(config.ReceiverPath, errors.Join(errors.Join(all...),
		p.lasting(p.rx.DataDir), p.lasting(p.rx.Authority.Dir),
		visible(config.ReceiverPath, "data_dir", p.rx.DataDir),
		visible(config.ReceiverPath, "authority.dir", p.rx.Authority.Dir)))
}

func wrong(path string, err error) error {
	return fault.Exit(fault.Fix(err, "sudoedit "+path+"   # then: cis490 config check"), fault.Config)
}

// fill replaces the placeholders of an example, in order.
func fill(example []byte, values ...string) []byte {
	s := string(example)
	for _, v := range values {
		s = strings.Replace(s, `"REPLACE_ME"`, strconv.Quote(v), 1)
	}
	return []byte(s)
}

// fillReceiver makes a receiver's config that listens on the port of the public URL.
func fillReceiver(public string) []byte {
	s := string(fill(assets.Config(string(Receiver)), public))
	u, err := url.Parse(public)
	if err != nil {
		return []byte(s) // an error when the config is read
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	if port != "8443" {
		s = strings.Replace(s, `# listen = ":8443"`, fmt.Sprintf("listen = %q", ":"+port), 1)
	}
	return []byte(s)
}

// config writes the config if there is none. An existing one belongs to the site; it
// contains no secrets and only has to be readable for the services.
func (p *Plan) config(path string) step {
	if content, missing := p.writes[path]; missing {
		return p.ensure("config", file{path: path, content: content, owner: root, mode: configMode})
	}
	return step{"config", func(context.Context) ([]Change, error) {
		fi, err := p.FS.Lstat(p.at(path))
		if err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o004 != 0 {
			return nil, err
		}
		return []Change{readable(p, path, fi)}, nil
	}}
}

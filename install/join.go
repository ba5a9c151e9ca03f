package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"cis490/assets"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// TokensFile is the name of the access tokens among the files of an invitation.
const TokensFile = "access-tokens.json"

// URLFiles are the parameters of a database's URL that name files, by names of the files in an
// invitation.
func URLFiles() map[string]string {
	return map[string]string{"postgres-root": "sslrootcert", "postgres-cert": "sslcert", "postgres-key": "sslkey"}
}

// Invitation is an invitation to become one more receiver, decoded and checked.
type Invitation struct {
	Token   wire.Token
	StoreID string
	expires time.Time
	text    string // of the token
	shared  config.Receiver
	files   map[string]string
}

// ReadInvitation parses an invitation. It takes nothing from it that it does not know: of the
// config the settings that receivers share, and no path.
func ReadInvitation(text, version string) (*Invitation, error) {
	raw, token, err := wire.ParseInvitation([]byte(text))
	if err != nil {
		return nil, fault.Exit(fault.Fix(err, inviteFix("NAME")), fault.Usage)
	}
	refuse := func(format string, args ...any) (*Invitation, error) {
		return nil, fault.Exit(fault.Fix(fmt.Errorf(format, args...), inviteFix(string(token.Host))), fault.Config)
	}
	shared, unknown, err := config.ParseReceiver("the invitation", []byte(raw.Config))
	switch {
	case err != nil:
		return refuse("%w", err)
	case len(unknown) > 0:
		err = fmt.Errorf("this program, version %s, does not know all settings of version %.40q: %w", version, raw.Version, unknown[0])
		return nil, fault.Exit(fault.Fix(err, "copy the program of that receiver here, and run it: /opt/cis490/current/cis490"), fault.Config)
	case shared.Ledger.Backend != config.LedgerPostgres || shared.Store.Backend != config.StoreS3:
		return refuse("the invitation is of a receiver that works alone")
	case token.Receiver != strings.TrimSuffix(shared.PublicURL, "/") || token.Authority != strings.TrimSuffix(shared.Authority.URL, "/"):
		return refuse("the invitation's token and config are of different receivers")
	}
	known := invitedFiles()
	for name := range raw.Files {
		if !slices.Contains(known, name) {
			return refuse("the invitation has a file %.40q, which this program does not know", name)
		}
	}
	for name, path := range shared.SharedFiles() {
		if _, has := raw.Files[name]; !has && *path != "" && name != "notify" { // whose default may be missing
			return refuse("the invitation lacks the file %q, which its config names", name)
		}
	}
	return &Invitation{Token: token, StoreID: raw.StoreID, expires: raw.Expires, text: raw.Token, files: raw.Files, shared: shared}, nil
}

// invitedFiles returns the names that files of an invitation may have. They are files of
// configDir.
func invitedFiles() []string {
	all := append([]string{TokensFile}, slices.Collect(maps.Keys(new(config.Receiver).SharedFiles()))...)
	return append(all, slices.Collect(maps.Keys(URLFiles()))...)
}

// Name returns the name of the new receiver.
func (i *Invitation) Name() ident.Host { return i.Token.Host }

// In returns the config of the new receiver, and the content of the files that it names, in a
// folder.
func (i *Invitation) In(dir string) (config.Receiver, map[string][]byte) {
	files := map[string][]byte{}
	for name, content := range i.files {
		files[filepath.Join(dir, name)] = []byte(content)
	}
	conf := i.shared.Share(string(i.Name()), dir)
	files[conf.Ledger.URLFile] = []byte(relocate(i.files["postgres"], dir, func(name string) bool { _, has := i.files[name]; return has }))
	return conf, files
}

// inviteFix returns the command that makes another invitation.
func inviteFix(name string) string { return wire.FixFor(wire.AnswerOf(wire.NotInvited).Fix, name) }

// relocate makes the URL of a database name its files in a folder.
func relocate(text, dir string, has func(name string) bool) string {
	base, query, found := strings.Cut(strings.TrimSpace(text), "?")
	values, err := url.ParseQuery(query)
	if !found || err != nil {
		return text
	}
	for name, parameter := range URLFiles() {
		if has(name) {
			values.Set(parameter, filepath.Join(dir, name))
		}
	}
	return base + "?" + values.Encode() + "\n"
}

// join makes the config that an invitation asks for, or compares the machine's own with it.
func (p *Plan) join(content []byte, missing bool) ([]byte, error) {
	want, _ := p.Invitation.In(configDir)
	if missing {
		if p.Now().After(p.Invitation.expires) {
			err := fmt.Errorf("the invitation expired at %s", plain.Time(p.Invitation.expires))
			return nil, fault.Exit(fault.Fix(err, inviteFix(string(p.Invitation.Name()))), fault.Usage)
		}
		if dir, err := p.otherData(want); err != nil || dir != "" {
			return nil, errors.Join(err, occupied(fmt.Errorf("%s has the data of another receiver", dir)))
		}
		return fillConfig(want)
	}
	have, _, err := config.ParseReceiver(config.ReceiverPath, content)
	if err != nil {
		return content, nil // the caller reports it
	}
	for _, v := range [][3]string{
		{"name", have.Name, want.Name},
		{"public_url", strings.TrimSuffix(have.PublicURL, "/"), strings.TrimSuffix(want.PublicURL, "/")},
		{"authority.elsewhere", fmt.Sprint(have.Authority.Elsewhere), "true"},
		{"ledger.backend", have.Ledger.Backend, want.Ledger.Backend},
		{"store.s3.endpoint", have.Store.S3.Endpoint, want.Store.S3.Endpoint},
		{"store.s3.bucket", have.Store.S3.Bucket, want.Store.S3.Bucket},
		{"store.s3.prefix", have.Store.S3.Prefix, want.Store.S3.Prefix},
	} {
		if v[1] != v[2] {
			why := fmt.Sprintf("is %q, but the invitation is for %q: this machine is another receiver", v[1], v[2])
			return nil, occupied(&config.Error{File: config.ReceiverPath, Key: v[0], Why: why})
		}
	}
	return content, nil
}

func occupied(err error) error {
	return fault.Exit(fault.Fix(err, "sudo cis490 status   # what this machine is. If nothing of it is needed: "+
		"sudo cis490 uninstall receiver --purge, which deletes its data"), fault.Config)
}

// otherData returns a folder with data of a receiver that worked alone, or of its authority;
// empty: there is none.
func (p *Plan) otherData(want config.Receiver) (string, error) {
	for _, path := range []string{
		filepath.Join(want.DataDir, "index.jsonl"), filepath.Join(want.DataDir, "store_id"),
		filepath.Join(config.DefaultReceiver().Authority.Dir, caKeyFile),
	} {
		switch _, err := p.FS.Lstat(p.at(path)); {
		case err == nil:
			return filepath.Dir(path), nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", nil
}

// fillConfig returns the example with the values of a config.
func fillConfig(c config.Receiver) ([]byte, error) {
	changed, err := c.Changed()
	if err != nil {
		return nil, err
	}
	want := maps.Clone(changed)
	key := regexp.MustCompile(`^(?:# )?([a-z_]+) = `)
	var out strings.Builder
	table := ""
	for line := range strings.Lines(string(assets.Config(string(Receiver)))) {
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(strings.TrimSpace(line), "[]") + "."
		}
		if m := key.FindStringSubmatch(line); m != nil {
			if value, ok := changed[table+m[1]]; ok {
				line = m[1] + " = " + value + "\n"
				delete(changed, table+m[1])
			}
		}
		out.WriteString(line)
	}
	if len(changed) > 0 {
		return nil, fmt.Errorf("the example has no key %v", slices.Sorted(maps.Keys(changed)))
	}
	got, _, err := config.ParseReceiver(config.ReceiverPath, []byte(out.String()))
	if err != nil {
		return nil, err
	}
	if left, err := got.Changed(); err != nil || !maps.Equal(left, want) {
		return nil, errors.Join(err, errors.New("the settings of the invitation cannot be written as a config"))
	}
	return []byte(out.String()), nil
}

// sharedFiles writes the files of an invitation. Root owns them, serve reads them.
func (p *Plan) sharedFiles() step {
	var all []resource
	if p.Invitation != nil {
		_, files := p.Invitation.In(configDir)
		for _, path := range slices.Sorted(maps.Keys(files)) {
			all = append(all, file{path: path, content: files[path], owner: owner{"root", nameOfUs}, mode: 0o640, secret: true})
		}
	}
	return p.ensure("shared files", all...)
}

// serverCertificate fetches the first server certificate of a receiver that was invited. If
// that fails, serve tries again.
func (p *Plan) serverCertificate() step {
	return step{"certificate", func(context.Context) ([]Change, error) {
		if !p.tokenWaits() || p.Update {
			return nil, nil
		}
		return []Change{{
			What: "invitation not used yet: fetch the server certificate", Done: "fetched", Object: "the server certificate",
			Commands: []string{nameOfUs + " " + strings.Join(fetchServerCert(), " ")},
			apply: func(ctx context.Context) error {
				if err := p.Fetch(ctx, fetchServerCert()); err != nil {
					return atTheEnd{err}
				}
				return nil
			},
		}}, nil
	}}
}

func fetchServerCert() []string { return []string{"cert-fetch", "--config", config.ReceiverPath} }

// runInstalled runs the installed program.
func (p *Plan) runInstalled(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.at(command), args...).CombinedOutput()
	if err != nil {
		return refusal(string(out), err)
	}
	return nil
}

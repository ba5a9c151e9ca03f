package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// The files of an enrollment.
const (
	certFile   = "lab-host.pem"
	tokenFile  = "join-token"
	serverFile = "server.pem" // of a receiver, in its copy of the authority's folder
)

// certWait is how long install waits for the first certificate.
const certWait = 20 * time.Second

const certFetch = "cis490-cert-fetch.service"

// identity is where a role's certificate is, the join token that was given, and the file that
// remembers it.
type identity struct{ dir, cert, token, joined string }

func (p *Plan) identity() identity {
	if p.Role == LabHost {
		return identity{p.lab.CertsDir, certFile, strings.TrimSpace(p.Token), stateDir + "/joined"}
	}
	i := identity{p.rx.Authority.Dir, serverFile, "", stateDir + "/joined-receiver"}
	if p.Invitation != nil {
		i.token = p.Invitation.text
	}
	return i
}

// joinToken writes the token for cert-fetch, which removes it after use. It remembers the
// digest of the token, so that pasting the same command twice is harmless.
func (p *Plan) joinToken() step {
	id := p.identity()
	sum := sha256.Sum256([]byte(id.token))
	handed := file{path: id.joined, content: []byte(hex.EncodeToString(sum[:]) + "\n"), owner: root, mode: 0o600, secret: true}
	token := file{path: filepath.Join(id.dir, tokenFile), content: []byte(id.token + "\n"), owner: ours, mode: 0o600, secret: true}
	return step{"join token", func(context.Context) ([]Change, error) {
		remember, err := handed.check(p)
		if err != nil {
			return nil, err
		}
		if remember == nil && p.enrolled() && !p.tokenWaits() {
			return nil, nil
		}
		var changes []Change
		c, err := token.check(p)
		if c != nil {
			changes = append(changes, *c)
		}
		if remember != nil {
			changes = append(changes, *remember)
		}
		return changes, err
	}}
}

// enrollment waits a moment for the certificate, so that a person sees the result at once;
// the timer retries anyway.
func (p *Plan) enrollment() step {
	return step{"enrollment", func(context.Context) ([]Change, error) {
		switch {
		case p.enrolled() && !p.tokenWaits():
			return nil, nil
		case !p.tokenWaits() && p.Token == "":
			return []Change{note("no certificate and no join token; on the receiver: sudo cis490 token create " + p.lab.Host)}, nil
		}
		return []Change{{
			What:     "join token not used yet: fetch the certificate",
			Done:     "fetched",
			Object:   "the certificate",
			Commands: []string{"systemctl start " + certFetch},
			apply:    p.enroll,
		}}, nil
	}}
}

// enroll runs cert-fetch and waits for a short time. It is not an error that the receiver
// does not answer by then, but a refusal is one: retries would not help.
func (p *Plan) enroll(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, certWait)
	defer cancel()
	err := p.Manager.Systemctl(wait, "start", certFetch)
	switch {
	case p.enrolled() && !p.tokenWaits():
		return nil
	case err != nil && wait.Err() == nil && !p.Update:
		return atTheEnd{refusal(p.Manager.Errors(ctx, certFetch), err)}
	}
	return noted{errors.New("no certificate yet; cert-fetch retries every 5 minutes, see: journalctl -u cis490-cert-fetch")}
}

// refusal returns the error and the fix that cert-fetch logged, or else systemd's error.
func refusal(logged string, err error) error {
	var text, fix []string
	for line := range strings.Lines(logged) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "cis490: error: "); ok {
			text = append(text, s)
		} else if s, ok := strings.CutPrefix(line, "cis490: hint: "); ok {
			fix = append(fix, s)
		}
	}
	if len(text) == 0 {
		return err
	}
	return fault.Fix(errors.New(strings.Join(text, "\n")), strings.Join(fix, "\n"))
}

func (p *Plan) enrolled() bool {
	id := p.identity()
	return disk.Exists(p.FS, p.at(filepath.Join(id.dir, id.cert)))
}

func (p *Plan) tokenWaits() bool {
	return disk.Exists(p.FS, p.at(filepath.Join(p.identity().dir, tokenFile)))
}

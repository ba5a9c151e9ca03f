package commands

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/agent/enroll"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
)

// askToJoin shows a code and returns the join token that a person's approval of the code
// brings. It returns "" on a host that is enrolled.
func (a *app) askToJoin(c *cli.Context, receiver string) (string, error) {
	if u, err := url.Parse(receiver); err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return "", usagef(c, "--receiver %q: want https://NAME:PORT", receiver)
	}
	name := c.String("name")
	if have, _, err := config.LoadLabHost(config.LabHostPath); err == nil {
		if disk.Exists(disk.OS{}, have.CertsDir+"/lab-host.pem") {
			a.printf("%s is enrolled: no approval is needed\n", have.Host)
			return "", nil
		}
		name = have.Host
	}
	host, err := hostName(name)
	if err != nil {
		return "", usagef(c, "%w", err)
	}
	log, err := a.log(c)
	if err != nil {
		return "", err
	}
	o := enroll.Options{FS: disk.OS{}, Host: host, Log: log, Now: time.Now}
	e, err := enroll.New(o)
	if err != nil {
		return "", err
	}
	if o.Authority, err = e.AuthorityOf(c.Context, receiver); err != nil {
		return "", err
	}
	if e, err = enroll.New(o); err != nil {
		return "", err
	}
	token, err := e.Join(c.Context, func(code enroll.Code) {
		a.printf("To admit this machine as %s, run on the receiver before %s:\n\n    sudo cis490 host approve %s\n\n"+
			"root     %s   # the receiver shows the same\nWaiting for approval…\n", host, stamp(code.Until), code.Digits, code.Root)
	})
	if err != nil {
		return "", err
	}
	a.printf("approved\n")
	return token, nil
}

// hostName returns a name for this machine: the given one, or the first label of its host
// name.
func hostName(given string) (ident.Host, error) {
	if given != "" {
		return ident.ParseHost(given)
	}
	full, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read this machine's name: %w", err)
	}
	label, _, _ := strings.Cut(full, ".")
	h, err := ident.ParseHost(strings.ToLower(label))
	if err != nil || h == "localhost" {
		return "", fault.Fix(errors.Join(fmt.Errorf("this machine's name, %q, cannot be a host's", full), err), "--name lab-07")
	}
	return h, nil
}

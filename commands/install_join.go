package commands

import (
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/agent/enroll"
	"cis490/install"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/plain"
)

// askToJoin shows a code, and returns the join token after a person has approved the code.
// It returns "" on an enrolled host.
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
	host, err := install.HostName(name)
	if err != nil {
		return "", err
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
			"CA  %s   # compare: host approve must print the same\nWaiting for approval…\n", host, plain.Time(code.Until), code.Digits, code.Root)
	})
	if err != nil {
		return "", err
	}
	a.printf("approved\n")
	return token, nil
}

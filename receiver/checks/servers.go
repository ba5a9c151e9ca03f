package checks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// nowhere is a commit that no gate lists. The verdict on it shows whether the gate has a
// list.
const nowhere = "0000000000000000000000000000000000000000"

func (r *registry) gate(ctx context.Context) check.Result {
	if r.Client == nil {
		return check.Skipf("cannot send requests to serve from here")
	}
	commit := string(r.Build.Commit)
	if commit == "" {
		commit = nowhere
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.Base, "/")+wire.GatePrefix+commit, nil)
	if err != nil {
		return check.Failf("%v", err)
	}
	res, err := r.Client.Do(req)
	if err != nil {
		return check.Skipf("no answer from serve")
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return check.Failf("GET %s: %s", req.URL.Path, res.Status)
	}
	var v wire.Verdict
	b, err := io.ReadAll(io.LimitReader(res.Body, wire.MaxAnswer))
	if err == nil {
		err = wire.Decode(b, &v)
	}
	if err != nil {
		return check.Failf("GET %s: %v", req.URL.Path, err)
	}
	if !r.Config.Gate.Enabled {
		return check.Warnf("the gate is disabled: every commit is accepted")
	}
	if v.HeadCommit == "" {
		return check.Warnf("this receiver's build has no commit, so the gate accepts only released and extra commits")
	}
	return check.Passf("head commit %s", v.HeadCommit)
}

func (r *registry) serverCert(context.Context) check.Result {
	path := r.Config.TLS.Certificate
	if path == "" {
		if r.Config.TLS.Mode == "proxy" {
			return check.Skipf("the server certificate belongs to the proxy")
		}
		path = r.authority("server.pem")
	}
	b, err := disk.ReadFile(disk.OS{}, path, disk.Small)
	if err != nil {
		return machine.Unreadable(err)
	}
	certs, err := pki.ParseCerts(b)
	if err != nil {
		return check.Failf("%s: %v", path, err)
	}
	return machine.Expiry(certs[0], r.Now())
}

// notifier checks the last delivery to each notification target.
func (r *registry) notifier(context.Context) check.Result {
	n := r.Config.Notify
	names := []string{}
	for _, t := range r.targets() {
		names = append(names, t.Name)
	}
	if n.HeartbeatURL != "" {
		names = append(names, notify.Heartbeat)
	}
	if len(names) == 0 {
		return check.Skipf("[notify] has no target")
	}
	states, err := notify.Read(r.Backend.Docs)
	if err != nil {
		return machine.Unreadable(err)
	}
	var bad, good, untried []string
	lasting := false
	for _, name := range names {
		switch s := states[name]; {
		case !s.Failing.IsZero():
			bad = append(bad, fmt.Sprintf("%s since %s: %s", name, plain.Time(s.Failing), s.Err))
			lasting = lasting || r.Now().Sub(s.Failing) > 3*machine.FleetCheckEvery
		case s.Success.IsZero() && s.Cursor.IsZero():
			untried = append(untried, name)
		case s.Success.IsZero():
			good = append(good, name+" (nothing to send yet)")
		default:
			good = append(good, fmt.Sprintf("%s at %s", name, plain.Time(s.Success)))
		}
	}
	switch {
	case lasting:
		return check.Failf("%s", strings.Join(bad, "; "))
	case len(bad) > 0: // it may be transient
		return check.Warnf("%s", strings.Join(bad, "; "))
	case len(untried) > 0:
		return check.Skipf("not tried yet: %s", strings.Join(untried, ", "))
	}
	return check.Passf("%s", strings.Join(good, ", "))
}

func (r *registry) fleetCheck(context.Context) check.Result {
	last, err := fleet.ReadLast(r.Backend)
	if err != nil {
		return machine.Unreadable(err)
	}
	return machine.Fresh(last.At, r.Backend.Since(), r.Now())
}

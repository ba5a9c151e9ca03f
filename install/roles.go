package install

import "slices"

// Role is the purpose of a machine.
type Role string

// The two roles. A machine may have both.
const (
	LabHost  Role = "lab-host"
	Receiver Role = "receiver"
)

func (r Role) other() Role {
	if r == LabHost {
		return Receiver
	}
	return LabHost
}

// daemons returns the role's long-running services, in start order.
func (r Role) daemons() []string {
	if r == LabHost {
		return []string{"cis490-shipper.service", "cis490-orchestrator.service"}
	}
	return []string{AuthorityUnit, "cis490-receiver.service"}
}

// AuthorityUnit is the unit of the authority, which a receiver without one lacks.
const AuthorityUnit = "cis490-bootstrap.service"

// daemons returns those of the plan's role on this machine.
func (p *Plan) daemons() []string {
	return slices.DeleteFunc(p.Role.daemons(), func(unit string) bool { return unit == AuthorityUnit && p.rx.Authority.Elsewhere })
}

// unitNames returns the unit files of the plan's role on this machine.
func (p *Plan) unitNames() []string {
	return slices.DeleteFunc(p.Role.Units(), func(unit string) bool { return unit == AuthorityUnit && p.rx.Authority.Elsewhere })
}

// timers returns the role's timers; each starts the service with its name.
func (r Role) timers() []string {
	if r == LabHost {
		return []string{"cis490-cert-fetch.timer", "cis490-doctor-check.timer", autoupdateTimer}
	}
	return []string{"cis490-fleet-health.timer", autoupdateTimer}
}

// Units returns the names of the role's unit files.
func (r Role) Units() []string {
	units := r.daemons()
	for _, t := range r.timers() {
		units = append(units, serviceOf(t), t)
	}
	return units
}

const autoupdateTimer = "cis490-autoupdate.timer" // in both roles

func serviceOf(timer string) string { return timer[:len(timer)-len(".timer")] + ".service" }

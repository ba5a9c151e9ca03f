// Package off shows that the scenarios of the incidents can fail: each runs again with a
// binary without the part that heals the incident, and must fail. The source tree does not
// change; the builds read an overlay. `make incidents-off` runs all, INCIDENT=04 one.
//
// A comment marks each part in the source: //off:04_IndexOwnedByRoot above a statement,
// case, list element or constant marks that node. The mark moves with the code; the text
// may change.
package off

// A part heals an incident, or names it.
type part struct {
	what string
	off  change // how it is switched off
}

// parts returns the parts by the name of their scenario.
func parts() map[string]part {
	clock := part{"the clock as a reason", never}
	return map[string]part{
		"01_RefusedForEver":   {"holding a refused commit", never},
		"02_LocalCommit":      {"asking the gate before recording", drop},
		"03_EmptyList":        {"the difference between an unread and an empty list", never},
		"04_IndexOwnedByRoot": {"repairing the row of a stored tarball", never},
		"05_AuthorityDown": {
			"retrying the request for a certificate",
			inUnit("cis490-cert-fetch.service.tmpl", "Type=oneshot\n", "Type=oneshot\nRemainAfterExit=yes\n"),
		},
		"06_ShipperHangs": {
			"a restart after the watchdog", inUnit("parts.tmpl", "Restart=on-failure\n", "Restart=no\n"),
		},
		"07_InstallAgain":       {"restarting services that run another binary", replace(`return ""`)},
		"07_InstallOverBroken":  {"enabling disabled units", drop},
		"08_SickHostRedMonitor": {"an exit code that ignores alerts", before("if len(r.Open) > 0 {\nreturn errStuck\n}")},
		"09_CertificateExpired": {"renewal by a key whose certificate has expired", or("!host.CertExpires.After(a.o.Now())")},
		"10_BadUpdate":          {"the rollback to the version before", replace(`back := filepath.Join("versions", t.Folder)`)},
		"10_CanaryOff":          {"another canary when the first is silent", replace("maxCanaries = 1")},
		"11_PowerCutReceiver":   {"the flush of tarball and row", replace("return nil")},
		"11_PowerCutUpdate": {
			"continuing a trial after a boot", before("if t.Boot != u.o.Machine.Boot() {\nreturn Result{Did: Observing}, nil\n}"),
		},
		"12_ReceiverDiskFull":     {"the receiver's reserve", never},
		"13_HostDiskFull":         {"the recorder's reserve", never},
		"14_NeverReportedAndGone": {"symptom gone", drop},
		"15_FastClock":            clock,
		"15_SlowClock":            clock,
		"16_Cloned":               {"symptom cloned", drop},
		"16_FalseRelease":         {"storing the newest seq that was seen", drop},
		"16_StolenToken":          {"comparing the path with the certificate", never},
		"17_FleetCheckStopped": {
			"the hosts' check of fleet-check's last run", replace("return machine.Fresh(p.ServerTime, joined, p.ServerTime)"),
		},
		"18_NetworkGone":      {"the deadline on silence", before("limit, working = 1000*limit, 1000*working")},
		"19_ReceiverRestored": {"the comparison with a new store_id", never},
		"20_CaptivePortalAndGateWrong": {
			"holding by commit", before("s.setAside(e, reasonOf(p, e, policy))\nreturn"),
		},
		"21_FalseAlarms": {"a quiet alert of a host that has left", never},
	}
}

// mends returns the mends of faults that no incident has. They have no scenario, but the
// simulator must notice when one is missing.
func mends() map[string]part {
	return map[string]part{
		"clock_Jump": {"moving stored times with a jump of the receiver's clock", or("true")},
		"clock_FutureRun": {
			"judging although the last run is in the future",
			before("if o.Now.Before(p.last.At) {\nreturn Result{Memory: p.memory, Alerts: o.Alerts}, nil\n}"),
		},
		"clock_FutureCertificate": {"renewing a certificate that is not valid yet", replace("return !now.Before(RenewAt(c, name))")},
		"clock_FutureCA":          {"a CA that is valid for slow clocks", drop},
		"alarm_Unwritten":         {"notifying of alerts that cannot be written", before("if err != nil {\nreturn p, err\n}")},
		"alarm_NotDurable":        {"failed uploads as a reason not to be ready", before("if err != nil {\nreturn false\n}")},
		"alarm_OtherDisk":         {"refusing an empty data folder where a store was", or("true")},
		"alarm_Rotated":           {"notifying of the end of alerts whose rows were rotated away", never},
		"trial_CrashForgotten":    {"a crash that is noted for after the next boot", never},
		"answer_CommitHeld":       {"asking whether episodes of a held commit are stored", or("true")},
		"answer_OtherEncoder":     {"asking for the digest that an earlier encoder made", never},
	}
}

// simulatedParts returns the parts that the simulator switches off in other code, because it
// does not run the marked code of the scenario. Their marks end with .sim.
func simulatedParts() map[string]part {
	return map[string]part{"11_PowerCutReceiver": {"the flush of tarball and row", replace("err = nil")}}
}

// other is a second place that is switched off, because either is enough.
type other struct {
	mark string
	off  change
}

// others returns the second places, by the name of the part.
func others() map[string]other {
	return map[string]other{"alarm_Rotated": {"alarm_Rotated.sent", before("return rows")}}
}

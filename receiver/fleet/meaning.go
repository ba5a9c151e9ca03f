package fleet

import "cis490/internal/wire"

// Meaning returns what a symptom means, in one sentence, or "" for an unknown one.
func Meaning(symptom string) string {
	return map[string]string{
		Silent:         "The host shipped within the last 24 hours, but nothing for more than 30 minutes. The alert's reason names the cause.",
		FatalOnly:      "The host sends, and the receiver rejects every episode permanently.",
		Unstamped:      "The host sends episodes without a code commit, because its build has none.",
		NeverReported:  "The host's join token was used or has expired, and no episode came for an hour.",
		Gone:           "The host has been silent for more than 24 hours, and was not decommissioned.",
		DoctorFailing:  "A hard check of the host or of the receiver fails, or the receiver rejects a readmitted host.",
		CertExpiring:   "The host's certificate is about to expire and was not renewed.",
		BacklogGrowing: "The host's outbox only grows: it records faster than it ships.",
		Cloned:         "Two machines use the name and the credentials of one host.",
		TokenMisused:   "A second key tried the host's join token, so it may be stolen.",
		StaleVersion:   "The host has not run the offered version for 24 hours.",
		RolledBack:     "The host rolled back to the last good version.",
		DiskLow:        "The receiver's disk is near its reserve.",
		IndexBroken:    "The receiver's index is not writable, or its rows differ from the files.",
		BackupOld:      "The receiver's last backup is older than [fleet] backup_old, or than its CA.",
		ClockWrong:     "The receiver's clock is wrong, or it disagrees with most hosts.",
		DataBroken:     "fleet-check cannot read or write the receiver's data folder.",
	}[symptom]
}

// UsualFix returns the fix of a symptom of which nothing more is known, or "". HOST stands
// for the host's name. An alert has the fix of its own reason.
func UsualFix(symptom string) string {
	return map[string]string{
		Silent:         fixNothing,
		FatalOnly:      "on the receiver: sudo cis490 host show HOST   # names the rejection",
		Unstamped:      wire.AnswerOf(wire.Unstamped).Fix,
		NeverReported:  fixUnused,
		Gone:           fixGone,
		DoctorFailing:  "on HOST: sudo cis490 doctor   # or on the receiver, if the alert is of @receiver",
		CertExpiring:   "on HOST: sudo cis490 cert-fetch --renew",
		BacklogGrowing: fixDoctor,
		Cloned:         fixTwoMachines,
		TokenMisused:   fixMisused,
		StaleVersion:   fixNotUpdated,
		RolledBack:     fixRolledBack,
		DiskLow:        fixNoSpace,
		IndexBroken:    "on the receiver: sudo cis490 doctor --deep",
		BackupOld:      "on the receiver: sudo cis490 backup",
		ClockWrong:     fixClock,
		DataBroken:     fixDisk,
	}[symptom]
}

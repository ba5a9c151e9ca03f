package fleet

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"cis490/internal/check"
	"cis490/receiver"
)

// readyCheck is the check that fails with everything that serve needs.
const readyCheck = "receiver.ready"

// receiverFindings returns the symptoms of the receiver, by its own checks and by the
// reports of all hosts together.
func receiverFindings(f *Facts) []Finding {
	var out []Finding
	symptomOf := map[string]string{
		"disk.reserve": DiskLow, "disk.days": DiskLow, "disk.inodes": DiskLow,
		"ledger.index": IndexBroken, "rows.files": IndexBroken, "backup.age": BackupOld,
	}
	for _, r := range f.Receiver {
		symptom, ok := symptomOf[r.ID]
		switch {
		case ok && f.Lost: // the check judged the mount point, or nothing
			continue
		case ok && (r.Status == check.Fail || r.Status == check.Warn):
		case r.Status == check.Fail && r.Hard:
			symptom = DoctorFailing
		default:
			continue
		}
		x := Finding{Symptom: symptom, Detail: r.Detail, Reason: Reason{Code: r.ID, Text: r.Detail, Check: r.ID, Fix: r.Fix}}
		// One alert for each symptom: the first failing check gives the reason.
		if i := slices.IndexFunc(out, func(y Finding) bool { return y.Symptom == symptom }); i >= 0 {
			if out[i].Reason.Check == readyCheck && strings.HasPrefix(r.ID, "store.") { // the cause, with its fix
				out[i].Reason = x.Reason
			}
			out[i].Detail += "; " + r.ID + ": " + r.Detail
			continue
		}
		out = append(out, x)
	}
	if f.Broken != nil && !explained(f.Broken, out) {
		r := Reason{Code: "data", Text: "fleet-check cannot use the data folder", Fix: dataFix(f.Broken)}
		out = append(out, Finding{Symptom: DataBroken, Detail: f.Broken.Error(), Reason: r})
	}
	if x, wrong := f.clockWrong(); wrong {
		// With a wrong clock the age of a backup is unknown.
		if !f.Held[Key{Host: Receiver, Symptom: BackupOld}].Firing {
			out = slices.DeleteFunc(out, func(x Finding) bool { return x.Symptom == BackupOld })
		}
		out = append(out, x)
	}
	return out
}

// explained reports whether one of the findings has the same cause.
func explained(broken error, found []Finding) bool {
	has := func(symptom string) bool {
		return slices.ContainsFunc(found, func(x Finding) bool { return x.Symptom == symptom })
	}
	if noSpace(broken) && has(DiskLow) {
		return true
	}
	_, ok := errors.AsType[indexError](broken)
	return ok && has(IndexBroken)
}

// noSpace reports whether a write failed because the disk is full.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// dataFix returns the fix for an error of the data folder.
func dataFix(err error) string {
	if _, foreign := errors.AsType[*receiver.OwnerError](err); foreign {
		return fixOwner
	}
	switch {
	case errors.Is(err, receiver.ErrVanished):
		return fixVanished
	case errors.Is(err, errRoster):
		return fixRoster
	case noSpace(err):
		return fixNoSpace
	case errors.Is(err, fs.ErrPermission):
		return fixOwner
	case errors.Is(err, errStuck), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return fixDisk
	}
	return fixData
}

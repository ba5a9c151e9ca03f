package fleet

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"cis490/internal/check"
	"cis490/receiver/store"
)

// receiverFindings are the symptoms of the receiver itself, out of its own
// checks and of what all hosts say together.
func receiverFindings(f *Facts) []Finding {
	var out []Finding
	symptomOf := map[string]string{"disk.reserve": DiskLow, "disk.days": DiskLow, "disk.inodes": DiskLow, "ledger.index": IndexBroken, "rows.files": IndexBroken, "backup.age": BackupOld}
	for _, r := range f.Receiver {
		symptom, ok := symptomOf[r.ID]
		switch {
		case ok && f.Lost: // of the mount point, or no verdict
			continue
		case ok && (r.Status == check.Fail || r.Status == check.Warn):
		case r.Status == check.Fail && r.Hard:
			symptom = DoctorFailing
		default:
			continue
		}
		x := Finding{Symptom: symptom, Detail: r.Detail, Reason: Reason{Code: r.ID, Text: r.Detail, Check: r.ID, Fix: r.Fix}}
		// One alert for each symptom: the first check that shows it names it.
		if i := slices.IndexFunc(out, func(y Finding) bool { return y.Symptom == symptom }); i >= 0 {
			out[i].Detail += "; " + r.ID + ": " + r.Detail
			continue
		}
		out = append(out, x)
	}
	if f.Broken != nil && !(noSpace(f.Broken) && slices.ContainsFunc(out, func(x Finding) bool { return x.Symptom == DiskLow })) {
		text := "fleet-check cannot use the data folder"
		out = append(out, Finding{Symptom: DataBroken, Detail: f.Broken.Error(), Reason: Reason{Code: "data", Text: text, Fix: dataFix(f.Broken)}})
	}
	if x, wrong := f.clockWrong(); wrong {
		out = append(out, x)
	}
	return out
}

// noSpace reports whether a write failed because the disk has no room for it.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// dataFix returns what mends a data folder.
func dataFix(err error) string {
	switch {
	case errors.Is(err, store.ErrVanished):
		return fixVanished
	case errors.Is(err, errRoster):
		return fixRoster
	case noSpace(err):
		return fixNoSpace
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errOwner):
		return fixOwner
	case errors.Is(err, errStuck), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return fixDisk
	}
	return fixData
}

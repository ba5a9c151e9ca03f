package fleet

import (
	"slices"

	"cis490/internal/check"
)

// receiverFindings are the symptoms of the receiver itself, out of its own
// checks and of what all hosts say together.
func receiverFindings(f *Facts) []Finding {
	var out []Finding
	symptomOf := map[string]string{"disk.reserve": DiskLow, "disk.days": DiskLow, "disk.inodes": DiskLow, "ledger.index": IndexBroken, "rows.files": IndexBroken, "backup.age": BackupOld}
	for _, r := range f.Receiver {
		symptom, ok := symptomOf[r.ID]
		switch {
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
	if x, wrong := f.clockWrong(); wrong {
		out = append(out, x)
	}
	return out
}

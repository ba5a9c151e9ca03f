package receiver

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// The names of the documents. Those of health reports begin with HealthReports.
const (
	ContactsDoc   = "contacts.json"
	FleetCheckDoc = "fleet-check.json"
	NotifyDoc     = "notify.json"
	BackupDoc     = "last-backup.json"
	RolloutDoc    = "rollout.json"
	NotesDoc      = "host-notes.json" // what operators write about hosts
	// MirrorDocs begins the names of the files that one receiver publishes for the others.
	MirrorDocs = "mirror/"
	// HealthReports is the prefix of the names of the hosts' health reports.
	HealthReports = "host-health/"
)

// ErrChanged reports that another process replaced a document meanwhile.
var ErrChanged = errors.New("the document was changed meanwhile")

// Docs are documents: values that are replaced as a whole. After a crash a document has
// the old content or the new.
type Docs interface {
	// Load returns a document of at most limit bytes, or fs.ErrNotExist.
	Load(name string, limit int64) ([]byte, error)
	// Save replaces a document durably.
	Save(name string, content []byte) error
	// Replace is Save if the document still has a version, or does not exist and version is
	// empty. Otherwise it returns ErrChanged.
	Replace(name, version string, content []byte) error
	// Remove removes a document. Without one it returns nil.
	Remove(name string) error
	// Stat describes a document, or returns fs.ErrNotExist.
	Stat(name string) (Doc, error)
	// All describes the documents whose name begins with a prefix that ends in a slash.
	All(prefix string) (map[string]Doc, error)
	// Writable returns why the next Save would probably fail. It changes nothing.
	Writable(name string) error
}

// Doc describes a document.
type Doc struct {
	Size    int64
	Saved   time.Time // by the storage's clock
	Version string    // different for each content of the document
}

// DocNames returns the names of all documents that there are.
func DocNames(d Docs) (names []string, err error) {
	for _, name := range []string{ContactsDoc, FleetCheckDoc, NotifyDoc, BackupDoc, NotesDoc} {
		switch _, err := d.Stat(name); {
		case err == nil:
			names = append(names, name)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	reports, err := d.All(HealthReports)
	return append(names, slices.Sorted(maps.Keys(reports))...), err
}

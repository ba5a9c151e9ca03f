package roster

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"cis490/internal/ident"
)

// Events reads the roster as it grows.
type Events interface {
	// Read calls add for each event since the last Read. It calls begin before if earlier
	// events may be gone. It returns the number of damaged rows, and fs.ErrNotExist while
	// there is no roster.
	Read(begin func(), add func(Event)) (damaged int, err error)
}

// View is the present roster. Calls are cheap while nothing changes. It is safe for
// concurrent use.
type View struct {
	mu      sync.Mutex
	events  Events
	read    bool // a roster was read
	hosts   map[ident.Host]Host
	sorted  []Host // hosts by name; nil: they changed
	damaged int
}

// NewView returns the view of a roster, which may not exist yet.
func NewView(e Events) *View { return &View{events: e} }

// Host returns a host's state, and whether it is in the roster. Without a roster the
// error is fs.ErrNotExist: then nothing is known about the host, and callers must not
// reject it permanently.
func (v *View) Host(name ident.Host) (Host, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.refresh(); err != nil {
		return Host{}, false, err
	}
	h, ok := v.hosts[name]
	return h, ok, nil
}

// All returns all hosts, including decommissioned ones, ordered by name. Before the
// authority's first start there are none.
func (v *View) All() ([]Host, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.refresh(); err != nil && (v.read || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	if v.sorted == nil {
		v.sorted = slices.SortedFunc(maps.Values(v.hosts), func(a, b Host) int { return strings.Compare(string(a.Name), string(b.Name)) })
	}
	return append([]Host{}, v.sorted...), nil
}

// Damaged returns the number of rows that could not be decoded.
func (v *View) Damaged() (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.refresh()
	return v.damaged, err
}

func (v *View) refresh() (err error) {
	v.damaged, err = v.events.Read(func() { v.hosts, v.sorted, v.read = map[ident.Host]Host{}, nil, true }, v.add)
	if err != nil {
		return fmt.Errorf("read roster: %w", err)
	}
	return nil
}

func (v *View) add(e Event) {
	if !e.Clock.IsZero() {
		e.At = e.Clock
	}
	v.sorted = nil
	fold(v.hosts, e)
}

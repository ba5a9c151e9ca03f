package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// Verb is a maintainer's order about a release.
type Verb string

// The orders. A later order about a release overrides an earlier one.
const (
	OrderPublish  Verb = "publish"
	OrderPromote  Verb = "promote"  // to the next stage before trials end
	OrderWithdraw Verb = "withdraw" // stops the offer; with Block the gate rejects its commit
)

// Order is a row of orders.jsonl, the ledger of orders about releases.
type Order struct {
	At      time.Time    `json:"at"`
	Verb    Verb         `json:"order"`
	Seq     uint64       `json:"seq"`
	Version string       `json:"version,omitempty"`
	Commit  ident.Commit `json:"commit,omitempty"`
	Force   bool         `json:"force,omitempty"` // promote: to all hosts at once, even after a withdrawal
	Block   bool         `json:"block,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	By      string       `json:"by,omitempty"` // token that ordered it on the dashboard
}

// OrdersFile is the name of the orders in the folder of releases.
const OrdersFile = "orders.jsonl"

func ordersPath(dir string) string { return filepath.Join(dir, OrdersFile) }

// Give appends an order, durably. It fails while another process appends one. Each order is
// later than the one before, even if the clock was set back, because the rollout ignores
// orders that are not later than the last one it carried out.
func Give(fsys disk.FS, dir string, now func() time.Time, o Order) (err error) {
	if locker, ok := fsys.(disk.Locker); ok {
		lock, err := locker.Lock(dir)
		if err != nil {
			return fault.Fix(fmt.Errorf("another order is being given: %w", err), "repeat the command")
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	l, err := ledger.Open(ledger.Options{FS: fsys, Path: ordersPath(dir), TimeKey: "at", Perm: 0o644, Now: now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	last, _, err := ledger.Last(fsys, ordersPath(dir), "at")
	if err != nil {
		return err
	}
	return l.Append(func(at time.Time) any {
		if o.At = at; !at.After(last.At) {
			o.At = last.At.Add(time.Nanosecond)
		}
		return o
	})
}

// maxOrders bounds orders.jsonl, in bytes.
const maxOrders = 16 << 20

// Orders returns all orders, oldest first. A file over maxOrders is an error.
func Orders(fsys disk.FS, dir string) ([]Order, error) {
	if fi, err := fsys.Lstat(ordersPath(dir)); err == nil && fi.Size() > maxOrders {
		return nil, fmt.Errorf("read %s: larger than %d bytes", ordersPath(dir), maxOrders)
	}
	var all []Order
	for row, err := range ledger.Rows(fsys, ordersPath(dir), "at", time.Time{}) {
		if err != nil {
			return nil, err
		}
		var o Order
		if err := json.Unmarshal(row.Line, &o); err != nil {
			return nil, fmt.Errorf("read %s: %w", ordersPath(dir), err)
		}
		all = append(all, o)
	}
	return all, nil
}

// Published is a release that the receiver may offer.
type Published struct {
	Manifest Manifest
	At       time.Time
	Offer    wire.Offer
}

// List returns the releases with a publish order, newest seq first. It does not verify
// signatures: hosts do, with their own keys. A release whose signature file was lost has an
// empty one, which no host accepts.
func List(fsys disk.FS, dir string) ([]Published, error) {
	orders, err := Orders(fsys, dir)
	if err != nil {
		return nil, err
	}
	by := map[uint64]time.Time{}
	for _, o := range orders {
		if _, again := by[o.Seq]; o.Verb == OrderPublish && !again {
			by[o.Seq] = o.At
		}
	}
	var all []Published
	for seq, at := range by {
		manifest, signature := signedPaths(dir, seq)
		m, err := disk.ReadFile(fsys, manifest, MaxManifest)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by hand: not offered any more
		}
		if err != nil {
			return nil, err
		}
		s, err := disk.ReadFile(fsys, signature, maxSignature)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		p := Published{At: at, Offer: wire.Offer{Manifest: string(m), Signature: string(s)}}
		if p.Manifest, err = parse(m); err != nil {
			return nil, fmt.Errorf("read %s: %w", manifest, err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Published) int {
		if a.Manifest.Seq > b.Manifest.Seq {
			return -1
		}
		return 1
	})
	return all, nil
}

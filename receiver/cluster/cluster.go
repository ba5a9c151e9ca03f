// Package cluster is what several receivers on one database know of each other.
//
// Each receiver publishes its version, whether it is ready, and what it would judge an episode
// by. All of them judge by the union, so that a host gets the same answer from each. A receiver
// without a sign of life for a minute does not count. Times are compared by the clock of the
// storage, which all receivers have in common. Nothing here is kept: a receiver that starts
// reads what the others published last.
package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/receiver"
	"cis490/receiver/gate"
)

// How often receivers read what the others published, and publish themselves at the latest;
// how long a sign of life counts, and how long a receiver that is away is listed.
const (
	readEvery    = time.Second
	publishEvery = 3 * time.Second
	freshFor     = time.Minute
	listedFor    = 7 * 24 * time.Hour
)

// MemberKey is the key under which a receiver describes itself.
const MemberKey = "member"

// Member is a receiver.
type Member struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	StartedAt time.Time  `json:"started_at"` // by its own clock
	Ready     bool       `json:"ready"`
	Missing   []string   `json:"missing,omitempty"` // why it is not ready
	Rules     gate.Rules `json:"rules"`             // of its own gate
	Judges    string     `json:"judges"`            // digest of all that decides about an episode
	// The life of its server certificate; zero if a proxy has it.
	CertificateFrom  time.Time `json:"certificate_from,omitzero"`
	CertificateUntil time.Time `json:"certificate_until,omitzero"`
	// Settings has digests of settings that should be the same on all receivers, by their name.
	Settings map[string]string `json:"settings"`
	// Silent is how long ago its last sign of life was, and Does the work that it alone does.
	Silent time.Duration   `json:"-"`
	Does   []receiver.Work `json:"-"`
}

// Fresh reports whether the receiver gave a sign of life within a minute.
func (m Member) Fresh() bool { return m.Silent < freshFor }

// State returns whether the receiver accepts episodes, and why not.
func (m Member) State() string {
	switch {
	case !m.Fresh():
		return "away"
	case m.Ready:
		return "ready"
	case len(m.Missing) == 0:
		return "stopping"
	}
	return "not ready: " + strings.Join(m.Missing, "; ")
}

// Work returns the work that only this receiver does, as text.
func (m Member) Work() string { return Work(m.Does) }

// Work returns kinds of work as text.
func Work(does []receiver.Work) string {
	var all []string
	for _, w := range does {
		all = append(all, string(w))
	}
	return cmp.Or(strings.Join(all, ", "), "-")
}

// Cluster follows the other receivers. A nil Cluster is that of one receiver: it has no members.
type Cluster struct {
	peers  receiver.Peers
	reader receiver.PeerReader
	log    *slog.Logger

	mu      sync.Mutex
	members map[string]seen
	now     time.Time // of the last Refresh, by the storage's clock
	leases  map[receiver.Work]string
}

// seen is a member, and when it published, by the storage's clock.
type seen struct {
	Member
	at time.Time
}

// New returns the cluster of a backend; nil if it has one receiver.
func New(p receiver.Peers, log *slog.Logger) *Cluster {
	if p == nil {
		return nil
	}
	return &Cluster{peers: p, reader: p.Follow(MemberKey), log: log, members: map[string]seen{}}
}

// Read returns the members of a backend now; none if it has one receiver.
func Read(p receiver.Peers) ([]Member, error) {
	c := New(p, nil)
	if c == nil {
		return nil, nil
	}
	if err := c.Refresh(); err != nil {
		return nil, err
	}
	return c.Members(), nil
}

// Refresh reads what receivers published since the last call.
func (c *Cluster) Refresh() error {
	if c == nil {
		return nil
	}
	next := map[string]seen{}
	whole := false
	now, err := c.reader.Read(func() { whole = true }, func(p receiver.Published) {
		x := seen{at: p.Saved}
		if json.Unmarshal(p.Content, &x.Member) == nil {
			x.Name = p.Receiver
			next[p.Receiver] = x
		}
	})
	if err != nil {
		return err
	}
	leases, err := c.peers.Leases()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases = leases
	if whole {
		c.members = map[string]seen{}
	}
	maps.Copy(c.members, next)
	c.now = now
	return nil
}

// Run publishes what self returns, and reads what the others published, until ctx ends.
func (c *Cluster) Run(ctx context.Context, self func() Member) error {
	if c == nil {
		return nil
	}
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	var last []byte
	var at time.Time
	failed := false
	for {
		content, err := json.Marshal(self())
		if err == nil && (!bytes.Equal(content, last) || time.Since(at) >= publishEvery) {
			if err = c.peers.Publish(map[string][]byte{MemberKey: content}); err == nil {
				last, at = content, time.Now()
			}
		}
		if err = errors.Join(err, c.Refresh()); err != nil && !failed {
			c.log.Warn("cannot exchange with the other receivers", "err", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			if !failed {
				c.sayStopping(self())
			}
			return nil
		case <-tick.C:
		}
	}
}

// sayStopping publishes that this receiver stops in order. Without it, the others would list it
// as ready for a minute.
func (c *Cluster) sayStopping(m Member) {
	m.Ready, m.Missing = false, nil
	content, err := json.Marshal(m)
	if err == nil {
		err = c.peers.Publish(map[string][]byte{MemberKey: content})
	}
	if err != nil {
		c.log.Warn("cannot publish that this receiver stops", "err", err)
	}
}

// Members returns the receivers as of the last Refresh, ordered by name. One that was away for a
// week is not listed. While the storage is away, none gets older.
func (c *Cluster) Members() []Member {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Member
	for _, x := range c.members {
		x.Silent = max(0, c.now.Sub(x.at))
		for _, work := range slices.Sorted(maps.Keys(c.leases)) {
			if holds(c.leases[work], x.Name) {
				x.Does = append(x.Does, work)
			}
		}
		if x.Silent < listedFor {
			all = append(all, x.Member)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// holds reports whether the holder of a lease is a receiver. An authority has the receiver's name
// without its id.
func holds(holder, name string) bool {
	return holder != "" && strings.HasPrefix(name+" ", holder+" ")
}

// Has reports whether this receiver has work that only one may do. Receivers that may have the
// authority need different names.
func Has(p receiver.Peers, w receiver.Work) (bool, error) {
	leases, err := p.Leases()
	return holds(leases[w], p.Self()), err
}

// Has reports whether this receiver had work at the last Refresh.
func (c *Cluster) Has(w receiver.Work) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return holds(c.leases[w], c.peers.Self())
}

// OthersReady reports whether another receiver accepted episodes at the last Refresh.
func (c *Cluster) OthersReady() bool {
	return slices.ContainsFunc(c.Members(), func(m Member) bool { return m.Fresh() && m.Ready && m.Name != c.peers.Self() })
}

// Rules returns the rules of the receivers that gave a sign of life.
func (c *Cluster) Rules() (all []gate.Rules) {
	for _, m := range c.Members() {
		if m.Fresh() {
			all = append(all, m.Rules)
		}
	}
	return all
}

// Policy returns the digest of what all receivers judge by, own included.
func (c *Cluster) Policy(own string) string {
	if c == nil {
		return own
	}
	all := []string{own}
	for _, m := range c.Members() {
		if m.Fresh() {
			all = append(all, m.Judges)
		}
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(all), "\n")))
	return hex.EncodeToString(sum[:16])
}

// Digest returns a short digest of a setting.
func Digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Difference is a setting that is not the same on all receivers.
type Difference struct {
	Setting string
	A, B    string // two receivers that differ
}

// Differences compares the settings of the receivers that gave a sign of life.
func Differences(all []Member) (found []Difference) {
	all = slices.DeleteFunc(slices.Clone(all), func(m Member) bool { return !m.Fresh() })
	seen := map[string]bool{}
	for i, a := range all {
		for _, b := range all[i+1:] {
			for name, x := range a.Settings {
				if y, has := b.Settings[name]; has && x != y && !seen[name] {
					seen[name] = true
					found = append(found, Difference{name, a.Name, b.Name})
				}
			}
		}
	}
	slices.SortFunc(found, func(x, y Difference) int { return cmp.Compare(x.Setting, y.Setting) })
	return found
}

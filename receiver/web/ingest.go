package web

import (
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
)

// What is counted of the last 24 hours, and how often the index is looked at.
const (
	slotLength  = time.Hour
	slotCount   = 24
	recentRows  = 12
	followEvery = time.Second
)

// tally is what one host, or the fleet, brought in each hour.
type tally struct {
	count [slotCount]uint32
	bytes [slotCount]int64
}

// hostTally is a host's tally with its newest rows, latest last.
type hostTally struct {
	tally
	recent []receiver.Entry
}

// ingest counts the rows of the last 24 hours as they are appended. What it holds
// grows with the hosts, not with history.
type ingest struct {
	o    Options
	tail receiver.Follower[receiver.Entry]

	mu    sync.Mutex
	slot  int64 // the running hour, in hours since 1970
	all   tally
	hosts map[ident.Host]*hostTally
	ready bool // the index was read to its end once
}

func newIngest(o Options) *ingest {
	g := &ingest{o: o, hosts: map[ident.Host]*hostTally{}}
	g.rewind(o.Now())
	return g
}

// rewind makes follow count the last 24 hours from a time anew.
func (g *ingest) rewind(now time.Time) {
	g.slot = slotOf(now)
	g.tail = g.o.Backend.Index.Follow(now.Add(-slotCount * slotLength))
}

func slotOf(t time.Time) int64 { return t.Unix() / int64(slotLength/time.Second) }

// follow counts what was appended since the last call. One goroutine calls it.
func (g *ingest) follow(now time.Time) error {
	g.mu.Lock()
	if slotOf(now) < g.slot { // the clock was ahead
		g.rewind(now)
	}
	g.turn(slotOf(now))
	g.mu.Unlock()
	err := g.tail.Read(g.begin, g.add)
	g.mu.Lock()
	g.ready = g.ready || err == nil
	g.mu.Unlock()
	return err
}

func (g *ingest) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all, g.hosts = tally{}, map[ident.Host]*hostTally{}
}

// add counts a row. Rows of a repair or an archive are not news of the host. A row of a
// clock that was ahead is of this hour at the latest.
func (g *ingest) add(r receiver.Entry) {
	if r.Archived || r.Repaired {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.hosts[r.Host]
	if h == nil {
		h = &hostTally{}
		g.hosts[r.Host] = h
	}
	slot := min(slotOf(r.When()), g.slot)
	if g.slot-slot < slotCount {
		for _, t := range []*tally{&g.all, &h.tally} {
			t.count[slot%slotCount]++
			t.bytes[slot%slotCount] += r.Size
		}
	}
	if len(h.recent) >= 2*recentRows { // moved seldom
		h.recent = append(h.recent[:0], h.recent[len(h.recent)-recentRows+1:]...)
	}
	h.recent = append(h.recent, r)
}

// turn makes an hour the running one: those that it takes the place of are empty.
func (g *ingest) turn(slot int64) {
	for g.slot < slot {
		g.slot = max(g.slot+1, slot-slotCount)
		i := g.slot % slotCount
		g.all.count[i], g.all.bytes[i] = 0, 0
		for _, h := range g.hosts {
			h.count[i], h.bytes[i] = 0, 0
		}
	}
}

// hours returns a tally with the oldest hour first, and its sums.
func (t *tally) hours(slot int64) (counts [slotCount]uint32, episodes uint64, bytes int64) {
	for i := range counts {
		at := (slot + 1 + int64(i)) % slotCount
		counts[i] = t.count[at]
		episodes += uint64(t.count[at])
		bytes += t.bytes[at]
	}
	return counts, episodes, bytes
}

// of returns what a host brought, and its newest rows, newest first.
func (g *ingest) of(h ident.Host) (counts [slotCount]uint32, recent []receiver.Entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.hosts[h]
	if t == nil {
		return counts, nil
	}
	counts, _, _ = t.hours(g.slot)
	for i := len(t.recent) - 1; i >= max(0, len(t.recent)-recentRows); i-- {
		recent = append(recent, t.recent[i])
	}
	return counts, recent
}

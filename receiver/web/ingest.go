package web

import (
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/receiver"
)

// The slots of the last 24 hours, and how often the index is read.
const (
	slotLength  = time.Hour
	slotCount   = 24
	recentRows  = 12
	followEvery = time.Second
)

// tally counts episodes and bytes in each hour, of a host or of the fleet.
type tally struct {
	count [slotCount]uint32
	bytes [slotCount]int64
}

// hostTally is a host's tally and its newest rows, the newest last.
type hostTally struct {
	tally
	recent []receiver.Entry
}

// ingest counts the rows of the last 24 hours as they are appended. Its memory grows with
// the number of hosts, not with history.
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

// rewind makes follow count the 24 hours before now again.
func (g *ingest) rewind(now time.Time) {
	g.slot = slotOf(now)
	g.tail = g.o.Backend.Index.Follow(now.Add(-slotCount * slotLength))
}

func slotOf(t time.Time) int64 { return t.Unix() / int64(slotLength/time.Second) }

// follow counts the rows appended since the last call. It is for one goroutine.
func (g *ingest) follow(now time.Time) error {
	g.mu.Lock()
	if slotOf(now) < g.slot { // the clock was ahead
		g.rewind(now)
	}
	g.advance(slotOf(now))
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

// add counts a row, except one of a repair or an archive. A row from the future, written
// while the clock was ahead, counts in this hour.
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
	if len(h.recent) >= 2*recentRows { // so that rows are rarely moved
		h.recent = append(h.recent[:0], h.recent[len(h.recent)-recentRows+1:]...)
	}
	h.recent = append(h.recent, r)
}

// advance moves on to an hour and empties the slots of the hours in between.
func (g *ingest) advance(slot int64) {
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

// of returns a host's episodes per hour and its newest rows, newest first.
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

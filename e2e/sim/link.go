package sim

import (
	"sync"
	"time"
)

// Way is the behaviour of a link.
type Way int

// The behaviours of a link.
const (
	Up     Way = iota
	Refuse     // connections are reset, new ones refused
	Hole       // packets are dropped silently
	Portal     // another machine answers
)

// Link is a lab host's network link to the receiver.
type Link struct {
	mu    sync.Mutex
	kept  time.Duration // how long a server waits for the next request
	way   Way
	slow  time.Duration // delay of each write
	cut   int           // bytes until their connection is cut; 0: never
	lose  int           // the n-th answer from now is lost with its connection; 0: never
	puts  bool          // count only answers to uploads
	then  Way           // the behaviour afterwards
	conns map[*conn]bool

	hour     time.Time // start of the hour in which answers are counted
	answers  int
	hammered bool // over the limit: the link stays down, or simulated time would not advance
}

// most bounds the answers to a host in an hour, also after the longest absence.
const most = 1000

// Set changes the link. Open connections stall in a Hole, and are cut otherwise.
func (l *Link) Set(w Way, slow time.Duration) {
	l.mu.Lock()
	l.way, l.slow, l.lose = w, slow, 0
	if l.hammered {
		l.way = Refuse
	}
	conns := l.list()
	l.mu.Unlock()
	for _, c := range conns {
		if w == Refuse || w == Portal {
			c.Reset()
		} else {
			c.in.wake()
			c.out.wake()
		}
	}
}

// Cut cuts the connection that carries the n-th byte from now.
func (l *Link) Cut(n int) { l.mu.Lock(); l.cut = n; l.mu.Unlock() }

// Lose loses the n-th answer from now, or the n-th to an upload, and then changes the link.
func (l *Link) Lose(n int, puts bool, then Way) {
	l.mu.Lock()
	l.lose, l.puts, l.then = n, puts, then
	l.mu.Unlock()
}

// broke resets the other connections of a link that a lost answer has changed.
func (l *Link) broke() {
	l.mu.Lock()
	var conns []*conn
	if l.way == Refuse {
		conns = l.list()
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Reset()
	}
}

func (l *Link) list() []*conn {
	var all []*conn
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

func (l *Link) stalled() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.way == Hole }

// carry returns the fate of written bytes: their delay, how many arrive, and whether the
// connection is cut after them.
func (l *Link) carry(c *conn, n int) (slow time.Duration, carried int, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut > 0 {
		if l.cut -= n; l.cut <= 0 {
			n, l.cut, cut = n+l.cut, 0, true
		}
	}
	switch {
	case c.server && c.asked >= question && n < small:
		c.asked, c.upload = 0, true
	case c.server:
		if c.asked >= question && l.tooMany() {
			n, cut = 0, true
		}
		if l.lose > 0 && c.asked >= question && (c.upload || !l.puts) {
			if l.lose--; l.lose == 0 {
				n, cut, l.way = 0, true, l.then
			}
		}
		c.asked, c.upload = 0, false
	default:
		c.peer.asked += n
	}
	return l.slow, max(n, 0), cut
}

// tooMany counts an answer. The caller holds the lock.
func (l *Link) tooMany() bool {
	if now := time.Now(); now.Sub(l.hour) > time.Hour {
		l.hour, l.answers = now, 0
	}
	if l.answers++; l.answers > most {
		l.hammered, l.way = true, Refuse
	}
	return l.hammered
}

// question is the minimum size of a request. small is a smaller bound, for the interim
// answer with which a server requests the body of an upload.
const (
	question = 300
	small    = 80
)

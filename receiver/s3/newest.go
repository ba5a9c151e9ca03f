package s3

import (
	"sync"

	"cis490/internal/ident"
	"cis490/receiver"
)

// newest has each host's newest episode that may have an object. Ids grow with time, so most
// uploads are of newer episodes and need no lookup in the bucket. A host whose clock was ahead
// needs lookups until its ids are newer again.
//
// It is valid only after a complete listing. Only this process writes to the bucket: every
// other object was recorded here before it was sent, or has a claim of the last process.
type newest struct {
	mu    sync.Mutex
	whole bool // all objects of the bucket are recorded
	of    map[ident.Host]ident.EpisodeID
}

// add records that an episode may have an object from now on.
func (n *newest) add(k receiver.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil {
		n.of = map[ident.Host]ident.EpisodeID{}
	}
	n.of[k.Host] = max(n.of[k.Host], k.Episode)
}

// addListing records a complete listing of the bucket.
func (n *newest) addListing(of map[ident.Host]ident.EpisodeID) {
	for h, id := range of {
		n.add(receiver.Key{Host: h, Episode: id})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whole = true
}

// isNew reports whether an episode is newer than all objects of its host, and so has none.
func (n *newest) isNew(k receiver.Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.whole && n.of[k.Host] < k.Episode
}

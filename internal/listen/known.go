package listen

import "time"

// A client's address is remembered for knownFor after its last verified request; hosts send
// one every few minutes.
const (
	knownFor = 30 * time.Minute
	maxKnown = 8192 // clients, each at one of its addresses
)

// known counts the recently verified clients by address. Only a verified client can add an
// entry.
type known struct {
	at    map[string]map[string]time.Time // address, client, last time
	n     int
	swept time.Time
}

func newKnown() known { return known{at: map[string]map[string]time.Time{}} }

// add records that a client was verified at an address.
func (k *known) add(source, client string, now time.Time) {
	if now.Sub(k.swept) > time.Minute {
		k.sweep(now)
	}
	clients := k.at[source]
	if _, again := clients[client]; !again {
		if k.n >= maxKnown {
			return
		}
		k.n++
	}
	if clients == nil {
		clients = map[string]time.Time{}
		k.at[source] = clients
	}
	clients[client] = now
}

// clients returns the number of clients at an address.
func (k *known) clients(source string) int { return len(k.at[source]) }

func (k *known) sweep(now time.Time) {
	k.swept = now
	for source, clients := range k.at {
		for client, last := range clients {
			if now.Sub(last) > knownFor {
				delete(clients, client)
				k.n--
			}
		}
		if len(clients) == 0 {
			delete(k.at, source)
		}
	}
}

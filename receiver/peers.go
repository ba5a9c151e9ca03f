package receiver

import "time"

// Peers are what each of several receivers publishes: small values by key, each of one
// receiver. A value is visible to the others as soon as it is published.
type Peers interface {
	// Self returns this receiver's name, which no other receiver has.
	Self() string
	// Publish replaces values of this receiver durably: all of them or, after an error, none.
	// A nil value removes the key of all receivers.
	Publish(map[string][]byte) error
	// Follow returns a reader of the values of all receivers, this one included, whose keys
	// begin with a prefix.
	Follow(prefix string) PeerReader
	// Forget removes values of a receiver, and reports whether there were any.
	Forget(name string, keys ...string) (bool, error)
	// Leases returns which receiver does the work that only one of them may do.
	Leases() (map[Work]string, error)
}

// PeerReader reads values as they change. It is for one goroutine.
type PeerReader interface {
	// Read calls add for each value that changed since the last Read; it may call it again for
	// one that did not. It calls begin before if all values follow. It returns the time by the
	// storage's clock, which all receivers have in common.
	Read(begin func(), add func(Published)) (now time.Time, err error)
}

// Published is a value of a receiver.
type Published struct {
	Receiver, Key string
	Content       []byte
	Saved         time.Time // by the storage's clock
}

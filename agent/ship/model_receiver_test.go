package ship_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"sync"
	"time"

	"cis490/agent/client"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// world is the model's receiver, and what a test knows of it and of the network to it. Its
// epoch increases with each change of policy.
type world struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	fail     func(format string, args ...any)
	killed   chan struct{} // closed when the shipper is killed: nothing hangs longer
	serial   int64         // of the host's certificate; 0: there is none
	mode     string        // of the answers: "", a lie, or a kind of refusal
	pings    bool          // pings are answered all the same
	hungAt   time.Time     // when a hang began
	noPuts   time.Time     // nothing may be sent before: Retry-After
	patience int           // the Retry-After of the next refusals in seconds; 0: any
	store    int
	epoch    int
	gated    map[ident.Commit]bool
	unwanted map[ident.EpisodeID]wire.Kind // refused for itself
	damaged  map[ident.EpisodeID]int       // arrives damaged so many times
	stored   map[ident.EpisodeID]ident.Digest
	truth    map[ident.EpisodeID]ident.Digest // what must ever be sent

	confirmed map[ident.EpisodeID]bool // reported as stored by a reconcile
	refused   map[refusalKey]*refusals
	answers   map[string]int // how often each was given
	requests  int
}

// refusalKey names what may be refused once: a commit or an episode, by one policy.
type refusalKey struct {
	what  any
	epoch int
}

type refusals struct {
	n, allowed int
	last       time.Time
	durable    bool // seen on the host's disk
}

// lies are the answers that are neither honest nor a refusal. A hang ends only with the
// program.
var lies = append([]string{"down", "lost answer", "not ours", "other store", "unreadable"}, hangs...)

var hangs = []string{"hang pack", "hang put", "hang ping", "hang reconcile"}

// ever is the epoch of refusals that no policy lifts.
const ever = -1

func (w *world) policy() string  { return fmt.Sprintf("policy-%d", w.epoch) }
func (w *world) storeID() string { return fmt.Sprintf("store-%d", w.store) }

// travel takes as long as one step; with a hang it does not end.
func (w *world) travel(ctx context.Context, what string, most time.Duration) error {
	w.mu.Lock()
	w.requests++
	killed, wait, hangs := w.killed, time.Duration(w.rnd.Int64N(int64(most))), w.mode == "hang "+what
	if hangs {
		w.hungAt = time.Now()
		w.answers[w.mode]++
	}
	w.mu.Unlock()
	if hangs {
		<-killed
		return errors.New("killed")
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-killed:
		return errors.New("killed")
	}
}

// sick returns the error of a receiver that fails every request, or nil.
func (w *world) sick() error {
	switch a := wire.AnswerOf(wire.Kind(w.mode)); {
	case w.mode == "down":
		return errors.New("connection refused")
	case w.mode == "not ours":
		return fmt.Errorf("%w: a portal", wire.ErrNotOurs)
	case string(a.Kind) == w.mode && (a.Action == wire.Hourly || a.Action == wire.BackOff || a.Action == wire.Await):
		p := wire.NewProblem(a.Kind, "because")
		if p.RetryAfter = w.patience; w.patience == 0 {
			p.RetryAfter = w.rnd.IntN(3) * w.rnd.IntN(900)
		}
		return p
	}
	return nil
}

// Put answers as the mode says.
func (w *world) Put(ctx context.Context, t client.Tarball) (wire.Receipt, bool, error) {
	if err := w.travel(ctx, "put", 2*time.Second); err != nil {
		return wire.Receipt{}, false, err
	}
	w.mu.Lock()
	unreadable := w.mode == "unreadable"
	if unreadable {
		w.answers[w.mode]++
	}
	err := w.letIn(t)
	w.count(err)
	w.mu.Unlock()
	if unreadable {
		return wire.Receipt{}, false, client.ErrTarball
	}
	if err != nil {
		return wire.Receipt{}, false, err
	}
	r, err := t.Open()
	if err != nil {
		return wire.Receipt{}, false, fmt.Errorf("%w: %w", client.ErrTarball, err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return wire.Receipt{}, false, fmt.Errorf("%w: %w", client.ErrTarball, err)
	}
	t.Sent(len(b))
	w.mu.Lock()
	rec, created, err := w.take(t, b)
	w.count(err)
	switch {
	case err != nil:
	case created:
		w.answers["201"]++
	default:
		w.answers["200"]++
	}
	w.mu.Unlock()
	if err == nil {
		err = w.travel(ctx, "put", time.Second)
	}
	return rec, created, err
}

// count counts the answers other than receipts.
func (w *world) count(err error) {
	if p := client.Refusal(err); p != nil {
		w.answers[fmt.Sprint(p.Status)]++
	} else if err != nil {
		w.answers[w.mode]++
	}
}

// letIn checks an upload by its header, before the body is sent.
func (w *world) letIn(t client.Tarball) error {
	if time.Now().Before(w.noPuts) {
		w.fail("%s is sent %s before Retry-After is over", t.Episode, time.Until(w.noPuts))
	}
	if w.mode == "unreadable" {
		return nil
	}
	if err := w.sick(); err != nil {
		if p := client.Refusal(err); p != nil && p.RetryAfter > 0 && wire.ActionOf(p) != wire.Hourly {
			w.noPuts = time.Now().Add(min(time.Duration(p.RetryAfter)*time.Second, 10*time.Minute))
		}
		return err
	}
	have, found := w.stored[t.Episode]
	switch {
	case found && have != t.Digest:
		return w.refuse(t.Episode, wire.OtherDigest)
	case !found && w.gated[t.Commit]:
		return w.refuse(t.Commit, wire.Gated)
	case !found && w.unwanted[t.Episode] != "":
		return w.refuse(t.Episode, w.unwanted[t.Episode])
	}
	return nil
}

// take handles the rest, once the body has arrived.
func (w *world) take(t client.Tarball, b []byte) (wire.Receipt, bool, error) {
	if digestOf(b) != w.truth[t.Episode] || t.Digest != w.truth[t.Episode] || t.Size != int64(len(b)) {
		w.fail("%s is sent as %s with a body of %s, not as %s", t.Episode, t.Digest, digestOf(b), w.truth[t.Episode])
	}
	have, found := w.stored[t.Episode]
	rec := wire.Receipt{Host: "lab-01", Episode: t.Episode, Digest: t.Digest, Size: t.Size, StoredAt: time.Now().UTC(), StoreID: w.storeID()}
	switch {
	case found && have == t.Digest && w.mode != "other store":
		return rec, false, nil
	case found && have != t.Digest:
		return wire.Receipt{}, false, w.refuse(t.Episode, wire.OtherDigest)
	case w.damaged[t.Episode] > 0:
		w.damaged[t.Episode]--
		return wire.Receipt{}, false, w.refuse(t.Episode, wire.BadDigest)
	case w.mode == "other store":
		return wire.Receipt{}, false, client.ErrOtherStore
	}
	w.stored[t.Episode] = t.Digest
	if w.mode == "lost answer" {
		return wire.Receipt{}, false, io.ErrUnexpectedEOF
	}
	return rec, true, nil
}

// refuse counts a refusal: one per policy is allowed, one more for a damaged body, and only
// one ever for a conflict.
func (w *world) refuse(what any, k wire.Kind) error {
	key := refusalKey{what, w.epoch}
	if k == wire.OtherDigest {
		key.epoch = ever
	}
	c := w.refused[key]
	if c == nil {
		c = &refusals{allowed: 1}
		if k == wire.BadDigest {
			c.allowed = 2
		}
		w.refused[key] = c
	}
	c.last = time.Now()
	if c.n++; c.n > c.allowed {
		w.fail("%v was refused %d times with %s by policy %d, want %d at most", what, c.n, k, key.epoch, c.allowed)
	}
	p := wire.NewProblem(k, "because")
	p.Policy = w.policy()
	return p
}

// Ping answers with the policy of the moment before the answer travels.
func (w *world) Ping(ctx context.Context, _ wire.Ping) (wire.Pong, error) {
	if err := w.travel(ctx, "ping", time.Second); err != nil {
		return wire.Pong{}, err
	}
	w.mu.Lock()
	pong, err := wire.Pong{ServerTime: time.Now(), StoreID: w.storeID(), Policy: w.policy()}, w.sick()
	if w.pings {
		err = nil
	}
	w.mu.Unlock()
	if err == nil {
		err = w.travel(ctx, "ping", 5*time.Second)
	}
	return pong, err
}

// Reconcile answers, and remembers what it confirmed.
func (w *world) Reconcile(ctx context.Context, pairs []wire.Pair) (wire.Reconciled, error) {
	if err := w.travel(ctx, "reconcile", time.Second); err != nil {
		return wire.Reconciled{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.sick(); err != nil {
		return wire.Reconciled{}, err
	}
	out := wire.Reconciled{StoreID: w.storeID()}
	for _, p := range pairs {
		if w.stored[p.Episode] == p.Digest {
			out.Stored = append(out.Stored, p.Episode)
			w.confirmed[p.Episode] = true
		}
	}
	return out, nil
}

// Ready and Certificate model credentials that appear and disappear.
func (w *world) Ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serial == 0 {
		return client.ErrNoCredentials
	}
	return nil
}

func (w *world) Certificate() (*x509.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &x509.Certificate{SerialNumber: big.NewInt(w.serial)}, nil
}

package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cis490/internal/wire"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// operatorToken is in the receiver's operator file.
const operatorToken = "operator-of-the-simulated-fleet"

// hushes are faults in which a person mutes an open alert, for a while or until it resolves.
func hushes() map[string]Kind {
	return map[string]Kind{"silence": {Mild: true, Often: 3, Most: 6 * time.Hour, start: hush}}
}

func hush(w *World, _ *Machine, f Fault) {
	w.wg.Go(func() {
		var key fleet.Key
		found := w.await(f.For, func() (yes bool) { key, yes = w.book.loud(f.N); return yes })
		if !found {
			return
		}
		in := wire.Silence{Comment: "known"}
		if f.N&1 != 0 {
			in.Until = w.rx.Clock.Now().UTC().Add(f.For)
		}
		if err := w.recv.silence(w.ctx, key, in); err != nil {
			w.trace("receiver", "not silenced: %s %s: %v", key.Host, key.Symptom, err)
			return
		}
		w.trace("receiver", "-- silenced: %s %s", key.Host, key.Symptom)
		w.book.mu.Lock()
		w.book.hushed[key] = time.Now().Add(f.For)
		delete(w.book.people, key) // its end is muted too
		w.book.mu.Unlock()
	})
}

// silence sends a silence to serve, as `cis490 alerts silence` does.
func (r *Receiver) silence(ctx context.Context, k fleet.Key, in wire.Silence) error {
	client, err := r.own.client(r, r.person())
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	url := receiverURL + wire.AlertsPath + "/" + k.Host + "/" + k.Symptom + "/silence"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	req.Header.Set("Content-Type", wire.ContentTypeJSON)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		err = fmt.Errorf("answer %d", res.StatusCode)
	}
	_ = res.Body.Close()
	return err
}

// loud returns a firing alert that is notified.
func (b *book) loud(n int64) (fleet.Key, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []fleet.Key
	for k, a := range b.open {
		if !a.Quiet {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		return fleet.Key{}, false
	}
	slices.SortFunc(all, func(a, b fleet.Key) int { return strings.Compare(a.Host+" "+a.Symptom, b.Host+" "+b.Symptom) })
	return all[n/2%int64(len(all))], true
}

// watchHushed: a muted alert is not notified.
func (b *book) watchHushed(m notify.Message) {
	if m.State != fleet.Firing || b.w.recently(b.w.settles(), func(f Fault) bool { return b.w.kinds[f.Kind].Party == OfReceiver }) {
		return
	}
	for _, a := range m.Alerts {
		b.count()
		b.mu.Lock()
		until, ok := b.hushed[a.Key()]
		b.mu.Unlock()
		if ok && time.Now().Before(until) {
			b.breaks("no notification while muted", a.Symptom, "%s %s was muted until %s: %s", a.Host, a.Symptom, until, m.Title)
		}
	}
}

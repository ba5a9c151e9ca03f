package pg_test

import (
	"errors"
	"testing"
	"time"

	"cis490/receiver"
	"cis490/receiver/pg/pgtest"
)

// TestLease: a lease belongs to one receiver. Once another one took it, the first one cannot
// write any more.
func TestLease(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	url := urlFile(t, server.Addr, database)
	first, second := rows(t.TempDir(), url, false), rows(t.TempDir(), url, false)
	ended := func() { server.SQL(t, database, "UPDATE leases SET until = '-infinity'") }
	alert := func(b receiver.Backend) error {
		return b.Alerts.Append([]receiver.Alert{{V: 1, At: time.Now(), Host: "lab-a"}})
	}

	held, err := first.Lease(receiver.Checking)
	if err != nil {
		t.Fatal(err)
	}
	var by *receiver.HeldError
	if _, err := second.Lease(receiver.Checking); !errors.As(err, &by) || !errors.Is(err, receiver.ErrLeased) || by.Holder == "" {
		t.Errorf("the second one: %v", err)
	}
	if err := errors.Join(alert(first), first.Docs.Save(receiver.FleetCheckDoc, []byte("first"))); err != nil {
		t.Error(err)
	}
	ended() // the first one sleeps
	other, err := second.Lease(receiver.Checking)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a row": alert(first), "a document": first.Docs.Save(receiver.FleetCheckDoc, []byte("late")),
	} {
		if !errors.Is(err, receiver.ErrLeased) {
			t.Errorf("%s of the one that lost its lease: %v", what, err)
		}
	}
	if err := errors.Join(alert(second), other.Close(), held.Close()); err != nil {
		t.Error(err)
	}
	if got, err := first.Docs.Load(receiver.FleetCheckDoc, 100); string(got) != "first" || err != nil {
		t.Errorf("the document is %q, %v", got, err)
	}
	// It stays with the second one between two of its runs.
	if _, err := first.Lease(receiver.Checking); !errors.As(err, &by) {
		t.Errorf("the first one between two runs of the second: %v", err)
	}
	again, err := second.Lease(receiver.Checking)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestServe_Several: several receivers serve at the same time, each with a data folder of its
// own. A folder has one.
func TestServe_Several(t *testing.T) {
	server := pgtest.New(t)
	url := urlFile(t, server.Addr, migrated(t, server))
	dir := t.TempDir()
	first, second := rows(dir, url, false), rows(t.TempDir(), url, false)
	var open []receiver.Store
	for _, b := range []receiver.Backend{first, second} {
		s, err := b.Serve()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
		if missing := s.Conditions(true); len(missing) > 0 {
			t.Errorf("not ready: %v", missing)
		}
	}
	if first.Peers.Self() == second.Peers.Self() {
		t.Errorf("both are %s", first.Peers.Self())
	}
	if _, err := rows(dir, url, false).Serve(); !errors.Is(err, receiver.ErrLeased) {
		t.Errorf("the same data folder: %v", err)
	}
	rolling, err := first.Lease(receiver.Rolling)
	if err != nil {
		t.Fatal(err)
	}
	var by *receiver.HeldError
	if _, err := second.Lease(receiver.Rolling); !errors.As(err, &by) || by.Holder != first.Peers.Self() {
		t.Errorf("the rollout's second holder: %v", err)
	}
	if err := errors.Join(first.Releases.SaveRollout([]byte("{}")), rolling.Close()); err != nil {
		t.Error(err)
	}
	if got, err := second.Releases.LoadRollout(); string(got) != "{}" || err != nil {
		t.Errorf("the rollout's document: %q, %v", got, err)
	}
	for _, s := range open {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

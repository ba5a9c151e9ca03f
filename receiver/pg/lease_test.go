package pg_test

import (
	"errors"
	"io"
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

// TestServe_One: a second receiver is refused while the first one serves, and takes over after
// it died. If that one is alive, it does not write documents any more.
func TestServe_One(t *testing.T) {
	server := pgtest.New(t)
	database := migrated(t, server)
	url := urlFile(t, server.Addr, database)
	dir := t.TempDir()
	first, second := rows(dir, url, false), rows(t.TempDir(), url, false)
	serve := func(b receiver.Backend) receiver.Store {
		t.Helper()
		s, err := b.Serve()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := serve(first)
	if _, err := second.Serve(); !errors.Is(err, receiver.ErrLeased) {
		t.Errorf("a second receiver: %v", err)
	}
	server.SQL(t, database, "UPDATE leases SET until = '-infinity'")
	var other io.Closer = serve(second)
	if err := first.Docs.Save(receiver.ContactsDoc, nil); !errors.Is(err, receiver.ErrLeased) {
		t.Errorf("contacts of the first one: %v", err)
	}
	lost := func() bool {
		missing := s.Conditions(true)
		return len(missing) == 1 && errors.Is(missing[0].Err, receiver.ErrLeased)
	}
	for late := time.Now().Add(time.Minute); !lost(); time.Sleep(100 * time.Millisecond) { // until it renews its lease
		if time.Now().After(late) {
			t.Fatalf("the first one is ready: %v", s.Conditions(true))
		}
	}
	if err := errors.Join(s.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	again := serve(first)
	if missing := again.Conditions(true); len(missing) > 0 {
		t.Errorf("the first one again: %v", missing)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

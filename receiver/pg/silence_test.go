package pg_test

import (
	"context"
	"errors"
	"testing"

	"cis490/receiver"
	"cis490/receiver/objects/s3test"
	"cis490/receiver/pg/pgtest"
)

// TestSilence: uploads do not wait for a database that does not answer, although its test still
// does. Whether a row was committed is not known then: the next commit shows it.
func TestSilence(t *testing.T) {
	store, server := s3test.New(t), pgtest.New(t)
	between := pgtest.NewHole(t, server.Addr)
	b := empty(t, server, between.Addr, false, store.Addr).open(t, t.TempDir())
	s, err := b.Serve()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	between.Set(true)
	committed, tested := make(chan error, 1), make(chan []receiver.Condition, 1)
	go func() {
		_, _, err := b.Rows.Commit(context.Background(), entry(1, "x"))
		committed <- err
	}()
	go func() { tested <- s.Conditions(false) }()
	select {
	case err := <-committed:
		if !errors.Is(err, receiver.ErrUnavailable) {
			t.Errorf("commit: %v", err)
		}
	case c := <-tested:
		t.Errorf("the test ended first: %v", c)
	}
	if _, _, err := s.Lookup("lab-a", entry(1, "x").Episode); !errors.Is(err, receiver.ErrUnavailable) {
		t.Errorf("lookup: %v", err)
	}
	if c := <-tested; len(c) != 1 || c[0].What != "database" {
		t.Errorf("conditions: %v", c)
	}
	between.Set(false)
	for n := 0; len(s.Conditions(false)) > 0; n++ {
		if n == 100 {
			t.Fatal(s.Conditions(false))
		}
	}
	if have, _, err := b.Rows.Commit(t.Context(), entry(1, "x")); err != nil || have.Digest != entry(1, "x").Digest {
		t.Errorf("afterwards: %+v, %v", have, err)
	}
}

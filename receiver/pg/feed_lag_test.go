package pg

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cis490/internal/check"
	"cis490/receiver/pg/pgtest"
)

// TestFeedLag: a transaction that somebody forgot is named, with the command that ends it.
func TestFeedLag(t *testing.T) {
	server := pgtest.New(t)
	database := server.Database(t)
	if _, _, err := Migrate(t.Context(), pgtest.URL("postgres", server.Addr, database), pgtest.ServeUser, ""); err != nil {
		t.Fatal(err)
	}
	url := pgtest.URL("postgres", server.Addr, database)
	forgotten, err := pgx.Connect(t.Context(), url+"&application_name=night%20report")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forgotten.Close(context.Background()) }()
	reader, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close(context.Background()) }()
	lag := func() time.Duration {
		t.Helper()
		d, err := lagOf(t.Context(), reader)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	oldest := func() writer {
		t.Helper()
		w, err := oldestWriter(t.Context(), reader)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if _, err := forgotten.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	if d := lag(); d != 0 {
		t.Errorf("without rows: %s", d)
	}
	server.SQL(t, database, `INSERT INTO episodes (host, episode, sha256, size, received_at, repaired, pos)
		SELECT 'lab-a', '01J00000000000000000000001', sha256('x'), 1, now() - interval '3 minutes', false,
		       pos_base + pg_current_xact_id()::text::bigint FROM meta`)
	if d := lag(); d < 3*time.Minute || d > 4*time.Minute {
		t.Errorf("a row of 3 minutes ago is not shown: %s", d)
	}
	w := oldest()
	if w.pid != int(forgotten.PgConn().PID()) || w.app != "night report" || w.database != database || w.open <= 0 {
		t.Errorf("the forgotten transaction: %+v", w)
	}
	w.open = 2 * time.Minute
	r := judgeFeed(lag(), w, true)
	if r.Status != check.Warn || !strings.Contains(r.Detail, w.String()) || !strings.Contains(r.Detail, `"night report"`) {
		t.Errorf("%+v", r)
	}
	w.open = time.Hour
	if r = judgeFeed(lag(), w, true); r.Status != check.Fail {
		t.Errorf("after an hour: %+v", r)
	}
	// The fix is that statement.
	_, statement, _ := strings.Cut(r.Fix, "psql -c '")
	statement, _, found := strings.Cut(statement, "'")
	if !found {
		t.Fatalf("the fix is %q", r.Fix)
	}
	server.SQL(t, database, statement)
	for end := time.Now().Add(10 * time.Second); (lag() > 0 || oldest().open > 0) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // the server ends the process
	}
	if d, w := lag(), oldest(); d > 0 || w.open > 0 {
		t.Errorf("after the fix: %s, %+v", d, w)
	}
	if r := judgeFeed(lag(), oldest(), true); r.Status != check.Pass {
		t.Errorf("after the fix: %+v", r)
	}
	if r := judgeFeed(2*time.Minute, writer{}, false); r.Status != check.Warn || !strings.Contains(r.Fix, "GRANT pg_monitor") {
		t.Errorf("without the right to see it: %+v", r)
	}
	// Names that a stranger chose are in no fix.
	for _, bad := range []writer{{prepared: "x' -- "}, {prepared: "x", database: "a b; reboot"}} {
		if fix := bad.fix(); strings.Contains(fix, "ROLLBACK PREPARED '") {
			t.Errorf("%+v: %s", bad, fix)
		}
	}
}

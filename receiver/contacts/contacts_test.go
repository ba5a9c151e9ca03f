package contacts_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
	"cis490/receiver/local"
)

func options(dir string) contacts.Options {
	return contacts.Options{
		Docs:       backend(dir).Docs,
		Rejections: backend(dir).Rejections,
		Version:    "1",
		Now:        time.Now,
		Log:        slog.New(slog.DiscardHandler),
	}
}

func read(t *testing.T, dir string) contacts.Contacts {
	t.Helper()
	c, err := contacts.Read(backend(dir).Docs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRecorder_OutagesCoverStopsAndKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		start := time.Now()
		at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute).UTC() }

		b := contacts.Open(options(dir))
		b.Ready(true) // at 0
		save(t, b)
		time.Sleep(10 * time.Minute)
		b.Ready(false) // a full disk, at 10
		time.Sleep(5 * time.Minute)
		b.Ready(true) // at 15
		time.Sleep(5 * time.Minute)
		save(t, b) // at 20, then killed
		time.Sleep(10 * time.Minute)
		b = contacts.Open(options(dir))
		b.Ready(true) // at 30
		time.Sleep(10 * time.Minute)
		b.Ready(false) // stopped, at 40
		save(t, b)
		time.Sleep(10 * time.Minute)
		b = contacts.Open(options(dir))
		time.Sleep(10 * time.Minute)
		b.Ready(true) // at 60
		save(t, b)

		want := []contacts.Span{{From: at(10), To: at(15)}, {From: at(20), To: at(30)}, {From: at(40), To: at(60)}}
		got := read(t, dir).Receiver.Outages
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("outages\n%v, want\n%v", got, want)
		}
	})
}

func save(t *testing.T, b *contacts.Recorder) {
	t.Helper()
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
}

func TestRecorder_StaysBounded(t *testing.T) {
	dir := t.TempDir()
	b := contacts.Open(options(dir))
	p := wire.NewProblem(wire.CertExpired, "%s", strings.Repeat("x\x1b[31m", 1000))
	for i := range 1000 {
		b.UnknownClient(fmt.Sprintf("name-%d", i), "192.0.2.1", p)
		b.AuthFailed("lab-a", i%2 == 0, "192.0.2.1", wire.NewProblem(wire.Kind(fmt.Sprintf("kind-%d", i)), ""))
		b.Ping("lab-a", wire.Ping{BootID: fmt.Sprintf("boot-%d", i), Version: strings.Repeat("v", 9999), Failing: make([]string, 999)})
		text := strings.Repeat("c\x1b", 9999)
		b.Ping("lab-a", wire.Ping{OS: "linux", Hardware: &wire.Hardware{CPU: text, Kernel: text, Distribution: text, Cores: -1, RAM: -1}})
	}
	save(t, b)
	fi, err := os.Stat(filepath.Join(dir, receiver.ContactsDoc))
	if err != nil || fi.Size() > 32<<10 {
		t.Errorf("size %d, %v", fi.Size(), err)
	}
	c := read(t, dir)
	if h := c.Hosts["lab-a"].Hardware; h == nil || len(h.CPU) > 130 || strings.Contains(h.CPU, "\x1b") || h.Cores != 0 || h.RAM != 0 {
		t.Errorf("hardware %+v", h)
	}
	k := c.Hosts["lab-a"]
	if c.UnknownClientCount != 1000 || k.Boots[len(k.Boots)-1].ID != "boot-999" || strings.Contains(c.UnknownClients[0].Detail, "\x1b") {
		t.Errorf("%d unknown clients, boots %v, detail %q", c.UnknownClientCount, k.Boots, c.UnknownClients[0].Detail)
	}
}

func TestRecorder_PingAndLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := contacts.Open(options(dir))
		b.Ping("lab-a", wire.Ping{Clock: time.Now().Add(90 * time.Second), Leaving: true, BootID: "one"})
		left := time.Now()
		time.Sleep(time.Minute)
		b.Ping("lab-a", wire.Ping{Clock: time.Now().Add(90 * time.Second), Leaving: true, BootID: "one"})
		save(t, b)
		k := read(t, dir).Hosts["lab-a"]
		if k.ClockOffset != 90 || !k.Leaving || !k.LeavingAt.Equal(left) || len(k.Boots) != 1 {
			t.Errorf("%+v", k)
		}
		b.Ping("lab-a", wire.Ping{Clock: time.Now(), Leaving: true, Uninstalled: true, BootID: "one"})
		save(t, b)
		if k := read(t, dir).Hosts["lab-a"]; !k.Leaving || !k.Uninstalled {
			t.Errorf("%+v", k)
		}
		b.Ping("lab-a", wire.Ping{Clock: time.Now(), BootID: "two"})
		save(t, b)
		if k := read(t, dir).Hosts["lab-a"]; k.Leaving || k.Uninstalled || !k.LeavingAt.IsZero() || len(k.Boots) != 2 {
			t.Errorf("%+v", k)
		}
	})
}

func TestRecorder_BrokenFileBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, receiver.ContactsDoc), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := contacts.Open(options(dir))
	b.Accepted("lab-a", "c")
	save(t, b)
	if c := read(t, dir); c.Hosts["lab-a"] == nil {
		t.Errorf("%+v", c)
	}
}

// A host that is refused once per second for a week, 604,800 times, leaves two rows
// an hour, and none of its refusals is uncounted.
func TestRefusals_BoundedUnderALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r, err := contacts.OpenRejections(options(dir))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		const week = 7 * 24 * 3600
		for range week {
			r.Note(
				receiver.Rejection{
					Host:     "lab-a",
					Verified: true,
					Route:    receiver.RouteEpisode,
					Status:   412,
					Kind:     wire.Gated,
					Detail:   strings.Repeat("d", 999),
				},
			)
			time.Sleep(time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var rows, count uint64
		last := time.Time{}
		for row, err := range backend(dir).Rejections.Since(time.Time{}) {
			if err != nil {
				t.Fatal(err)
			}
			rows, count, last = rows+1, count+row.Count, row.Last
		}
		if count != week || rows > 2*7*24+2 {
			t.Errorf("%d refusals in %d rows", count, rows)
		}
		if fi, err := os.Stat(filepath.Join(dir, local.RejectionsFile)); err != nil || fi.Size() > 200<<10 {
			t.Errorf("the file has %d bytes, %v", fi.Size(), err)
		}
		if ago := time.Since(last); ago > 3*time.Second {
			t.Errorf("the last one is %s ago", ago)
		}
	})
}

// Rejections of very many kinds do not fill the disk: the older half of the file is
// removed, and each of the newest is still there.
func TestRefusals_FileIsBounded(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := options(dir)
	o.Now = func() time.Time { return now }
	r, err := contacts.OpenRejections(o)
	if err != nil {
		t.Fatal(err)
	}
	const hosts, hours = 10_000, 24
	largest := int64(0)
	for range hours {
		for i := range hosts {
			r.Note(
				receiver.Rejection{
					Host:   ident.Host(fmt.Sprintf("lab-%d", i)),
					Route:  receiver.RoutePing,
					Status: 401,
					Kind:   wire.BadBearer,
					Detail: strings.Repeat("d", 200),
				},
			)
		}
		now = now.Add(time.Hour)
		if err := r.Flush(false); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(dir, local.RejectionsFile))
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, fi.Size())
	}
	if largest > 70<<20 || largest < 60<<20 {
		t.Errorf("the file had up to %d bytes", largest)
	}
	count := uint64(0)
	for row, err := range backend(dir).Rejections.Since(now.Add(-4 * time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		count += row.Count
	}
	if count < 4*hosts {
		t.Errorf("%d rejections of the last hours are there, of %d", count, 4*hosts)
	}
}

// A hundred thousand forged names leave a few lines, and say how many they were.
func TestRecorder_ForgedNames(t *testing.T) {
	dir := t.TempDir()
	b := contacts.Open(options(dir))
	p := wire.NewProblem(wire.Unauthorized, "no client certificate was sent")
	for i := range 100_000 {
		b.UnknownClient(fmt.Sprintf("made-up-%d", i), "192.0.2.1", p)
	}
	save(t, b)
	fi, err := os.Stat(filepath.Join(dir, receiver.ContactsDoc))
	if err != nil || fi.Size() > 16<<10 {
		t.Errorf("size %d, %v", fi.Size(), err)
	}
	if c := read(t, dir); c.UnknownClientCount != 100_000 || len(c.UnknownClients) != 20 || len(c.Hosts) != 0 {
		t.Errorf("%d unknown clients of %d requests, %d hosts", len(c.UnknownClients), c.UnknownClientCount, len(c.Hosts))
	}
}

// TestSnapshots_AsLargeAsTheyMayBe: what was taken can be read, whatever letters it
// is made of.
func TestSnapshots_AsLargeAsTheyMayBe(t *testing.T) {
	for _, letter := range []string{"x", "<", "&", "\u2028", "é", "\u202e", "\x7f", `\"`} {
		dir := t.TempDir()
		s := contacts.NewSnapshots(backend(dir).Docs)
		row := `{"id":"a.b","status":"pass","detail":"` + strings.Repeat(letter, 500) + `"},`
		body := `{"schema":"cis490.doctor/1","checks":[` + strings.Repeat(
			row,
			min(wire.MaxSnapshot/len(row)-1, check.MaxRows)-1,
		) + row[:len(row)-1] + `]}`
		var want check.Report
		if err := wire.Decode([]byte(body), &want); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first one moves into the history
			if _, err := s.Put("lab-01", time.Now(), want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := contacts.ReadSnapshot(backend(dir).Docs, "lab-01")
		if diff := cmp.Diff(want, got.Snapshot); err != nil || diff != "" {
			t.Errorf("%q: %v, %s", letter, err, diff)
		}
		_, write, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		if err := write(&all); err != nil || !strings.HasPrefix(all.String(), `{"hosts":[{"host":"lab-01"`) ||
			strings.Contains(all.String(), "unreadable") {
			t.Errorf("%q: it is not among all hosts': %v", letter, err)
		}
	}
}

func TestSnapshots_HistoryIsShort(t *testing.T) {
	dir := t.TempDir()
	s := contacts.NewSnapshots(backend(dir).Docs)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 20 {
		first, err := s.Put("lab-a", at.Add(time.Duration(i)*time.Hour), check.Report{Version: fmt.Sprint("n", i)})
		if err != nil || first != (i == 0) {
			t.Errorf("%d: first %t, %v", i, first, err)
		}
	}
	got, err := contacts.ReadSnapshot(backend(dir).Docs, "lab-a")
	if err != nil || got.Snapshot.Version != "n19" || !got.ReceivedAt.Equal(at.Add(19*time.Hour)) {
		t.Errorf("%+v, %v", got.Snapshot, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, receiver.HealthReports, "lab-a.history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 8 || !strings.Contains(lines[7], `"n18"`) || !strings.Contains(lines[0], `"n11"`) {
		t.Errorf("history %q", lines)
	}
	if _, all := list(t, s); len(all.Hosts) != 1 || all.Hosts[0].Host != "lab-a" {
		t.Errorf("%+v", all)
	}
}

// TestRecorder_AFirstStartThatIsNotReadyIsAnOutage: hosts could not send anything yet.
func TestRecorder_AFirstStartThatIsNotReadyIsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b, began := contacts.Open(options(dir)), time.Now()
		time.Sleep(time.Hour)
		save(t, b)
		if got := read(t, dir).Receiver.Outages; len(got) != 1 || !got[0].From.Equal(began) || !got[0].To.IsZero() {
			t.Errorf("outages %v, want one that lasts since %s", got, began)
		}
		b.Ready(true)
		save(t, b)
		if got := read(t, dir).Receiver.Outages; len(got) != 1 || got[0].To.Sub(began) != time.Hour {
			t.Errorf("outages %v, want one of an hour", got)
		}
	})
}

func backend(dir string) receiver.Backend {
	return local.Open(local.Options{FS: disk.OS{}, Dir: dir})
}

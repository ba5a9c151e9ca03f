package roster_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var keyID = ident.Digest(strings.Repeat("ab", 32))

func rows(t testing.TB, events ...roster.Event) []byte {
	t.Helper()
	var b []byte
	for i, e := range events {
		if e.At.IsZero() {
			e.At = start.Add(time.Duration(i) * time.Minute)
		}
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, line...), '\n')
	}
	return b
}

func write(t testing.TB, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, local.RosterFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, dir string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, local.RosterFile), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func host(t testing.TB, v *roster.View, name ident.Host) (roster.Host, bool) {
	t.Helper()
	h, ok, err := v.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h, ok
}

func issued(k roster.Kind, serial string) roster.Event {
	return roster.Event{Host: "lab-01", Event: k, Serial: serial, Key: keyID, Expires: start.Add(30 * 24 * time.Hour)}
}

func TestView_States(t *testing.T) {
	made := roster.Event{Host: "lab-01", Event: roster.TokenMade, Expires: start.Add(time.Hour)}
	gone := roster.Event{Host: "lab-01", Event: roster.Decommissioned}
	back := roster.Event{Host: "lab-01", Event: roster.Readmitted}
	for _, c := range []struct {
		name   string
		events []roster.Event
		state  roster.State
		valid  []string
		void   []string
	}{
		{"token", []roster.Event{made}, roster.Pending, nil, []string{"a"}},
		{"enrolled", []roster.Event{made, issued(roster.Enrolled, "a")}, roster.Active, []string{"a"}, []string{"b"}},
		{
			"renewed keeps the one before",
			[]roster.Event{issued(roster.Enrolled, "a"), issued(roster.Renewed, "b")},
			roster.Active,
			[]string{"a", "b"},
			nil,
		},
		{
			"a new enrolment revokes",
			[]roster.Event{issued(roster.Enrolled, "a"), issued(roster.Renewed, "b"), made, issued(roster.Enrolled, "c")},
			roster.Active,
			[]string{"c"},
			[]string{"a", "b"},
		},
		{"a new token alone does not", []roster.Event{issued(roster.Enrolled, "a"), made}, roster.Active, []string{"a"}, nil},
		{"decommissioned", []roster.Event{issued(roster.Enrolled, "a"), gone}, roster.Gone, nil, []string{"a"}},
		{"readmitted needs an enrolment", []roster.Event{issued(roster.Enrolled, "a"), gone, back}, roster.Pending, nil, []string{"a"}},
		{
			"enrolled again",
			[]roster.Event{issued(roster.Enrolled, "a"), gone, back, issued(roster.Enrolled, "b")},
			roster.Active,
			[]string{"b"},
			[]string{"a"},
		},
		{"unknown kind", []roster.Event{issued(roster.Enrolled, "a"), {Host: "lab-01", Event: "painted"}}, roster.Active, []string{"a"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, rows(t, c.events...))
			h, ok := host(t, local.Roster(disk.OS{}, dir), "lab-01")
			if !ok || h.State != c.state {
				t.Fatalf("state %q (%v), want %q", h.State, ok, c.state)
			}
			for _, s := range c.valid {
				if !h.Valid(s) {
					t.Errorf("serial %s is not valid", s)
				}
			}
			for _, s := range c.void {
				if h.Valid(s) {
					t.Errorf("serial %s is valid", s)
				}
			}
		})
	}
}

func TestView_ReplacedHostIsDecommissionedByTheSameRow(t *testing.T) {
	dir := t.TempDir()
	e := roster.Event{Host: "lab-02", Event: roster.Enrolled, Serial: "b", Other: "lab-01"}
	write(t, dir, rows(t, issued(roster.Enrolled, "a"), e))
	v := local.Roster(disk.OS{}, dir)
	if h, _ := host(t, v, "lab-01"); h.State != roster.Gone || h.Other != "lab-02" || h.Valid("a") {
		t.Errorf("the replaced host is %+v", h)
	}
	if h, _ := host(t, v, "lab-02"); h.State != roster.Active {
		t.Errorf("the new host is %+v", h)
	}
}

func TestView_ANewTokenEndsTheMisuseOfTheOldOne(t *testing.T) {
	made := roster.Event{Host: "lab-01", Event: roster.TokenMade, Expires: start.Add(time.Hour)}
	misused := roster.Event{Host: "lab-01", Event: roster.TokenMisused, From: "192.0.2.1"}
	dir := t.TempDir()
	write(t, dir, rows(t, made, issued(roster.Enrolled, "a"), misused))
	v := local.Roster(disk.OS{}, dir)
	if h, _ := host(t, v, "lab-01"); h.Misused.IsZero() || h.MisusedFrom != "192.0.2.1" {
		t.Errorf("misuse is not shown: %+v", h)
	}
	add(t, dir, rows(t, made))
	if h, _ := host(t, v, "lab-01"); !h.Misused.IsZero() || h.MisusedFrom != "" || h.State != roster.Active {
		t.Errorf("after a new token: %+v", h)
	}
}

func TestView_RevokedTokenLeavesNoHost(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, rows(t, roster.Event{Host: "lab-01", Event: roster.TokenMade}, roster.Event{Host: "lab-01", Event: roster.TokenRevoked}))
	if _, ok := host(t, local.Roster(disk.OS{}, dir), "lab-01"); ok {
		t.Error("a host whose only token was revoked should not exist")
	}
}

func TestView_ForgetsExpiredSerials(t *testing.T) {
	dir := t.TempDir()
	first := issued(roster.Enrolled, "a")
	first.Expires = start.Add(time.Second)
	write(t, dir, rows(t, first, issued(roster.Renewed, "b")))
	h, _ := host(t, local.Roster(disk.OS{}, dir), "lab-01")
	if h.Valid("a") || !h.Valid("b") {
		t.Error("want the expired serial forgotten, the new one valid")
	}
}

func TestView_FollowsTheFile(t *testing.T) {
	dir := t.TempDir()
	v := local.Roster(disk.OS{}, dir)
	if all, err := v.All(); err != nil || len(all) != 0 {
		t.Fatalf("All before the file = %v, %v", all, err)
	}
	if _, _, err := v.Host("lab-01"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Host before the file = %v, want fs.ErrNotExist", err)
	}
	write(t, dir, rows(t, issued(roster.Enrolled, "a")))
	if h, _ := host(t, v, "lab-01"); !h.Valid("a") {
		t.Error("the first row is not seen")
	}
	line := rows(t, issued(roster.Renewed, "b"))
	add(t, dir, line[:20])
	if h, _ := host(t, v, "lab-01"); h.Valid("b") {
		t.Error("a torn row counts")
	}
	add(t, dir, line[20:])
	before, _ := host(t, v, "lab-01")
	if !before.Valid("b") {
		t.Error("the completed row is not seen")
	}
	add(t, dir, rows(t, roster.Event{Host: "lab-01", Event: roster.Decommissioned}))
	if h, _ := host(t, v, "lab-01"); h.State != roster.Gone {
		t.Error("the decommissioning is not seen")
	}
	if !before.Valid("b") {
		t.Error("a host that was handed out changed")
	}
	if err := os.Remove(filepath.Join(dir, local.RosterFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.All(); err == nil {
		t.Error("a roster that vanished is taken for an empty one")
	}
}

func TestView_ReadsAnewWhatWasCutOrReplaced(t *testing.T) {
	dir := t.TempDir()
	v := local.Roster(disk.OS{}, dir)
	one, two := rows(t, issued(roster.Enrolled, "a")), rows(t, issued(roster.Renewed, "b"))
	write(t, dir, append(append([]byte{}, one...), two...))
	host(t, v, "lab-01")
	// The row of b was not durable: cut off, and another of the same length follows.
	other := rows(t, issued(roster.Renewed, "c"))
	write(t, dir, append(append(append([]byte{}, one...), other...), other...))
	if h, _ := host(t, v, "lab-01"); h.Valid("b") || !h.Valid("c") || !h.Valid("a") {
		t.Error("a row that was cut off still counts")
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), rows(t, issued(roster.Enrolled, "d")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, local.RosterFile)); err != nil {
		t.Fatal(err)
	}
	if h, _ := host(t, v, "lab-01"); h.Valid("a") || !h.Valid("d") {
		t.Error("the replaced file is not followed")
	}
}

func TestView_CountsDamagedRows(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, append([]byte("garbage\n{\"host\":\"NOT A HOST\"}\n"), rows(t, issued(roster.Enrolled, "a"))...))
	v := local.Roster(disk.OS{}, dir)
	if n, err := v.Damaged(); err != nil || n != 2 {
		t.Errorf("Damaged = %d, %v; want 2", n, err)
	}
	if h, _ := host(t, v, "lab-01"); !h.Valid("a") {
		t.Error("a good row after damaged ones is not seen")
	}
}

func TestView_ManyReadersWhileItGrows(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, rows(t, issued(roster.Enrolled, "a")))
	v := local.Roster(disk.OS{}, dir)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if h, ok, err := v.Host("lab-01"); err != nil || !ok || !h.Valid("a") {
					t.Errorf("Host = %+v, %v, %v", h, ok, err)
					return
				}
			}
		})
	}
	for range 50 {
		add(t, dir, rows(t, issued(roster.Renewed, "b")))
	}
	wg.Wait()
}

// TestView_AHoleIsNoRoster: what takes no room on the disk takes none in memory.
func TestView_AHoleIsNoRoster(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, rows(t, issued(roster.Enrolled, "1")))
	if err := os.Truncate(filepath.Join(dir, local.RosterFile), 8<<40); err != nil {
		t.Skip(err)
	}
	if all, err := local.Roster(disk.OS{}, dir).All(); err == nil {
		t.Errorf("a hole of 8 TiB is a roster: %v", all)
	}
}

// A host that renews without end stays small, and its last certificates count.
func TestView_CountsTheLastCertificates(t *testing.T) {
	dir := t.TempDir()
	var all []roster.Event
	for i := range 200 {
		e := issued(roster.Renewed, strconv.Itoa(i))
		e.Expires = time.Now().Add(time.Hour + time.Duration(i)*time.Second)
		all = append(all, e)
	}
	write(t, dir, rows(t, all...))
	h, _ := host(t, local.Roster(disk.OS{}, dir), "lab-01")
	h.State = roster.Active
	n := 0
	for i := range 200 {
		if h.Valid(strconv.Itoa(i)) {
			n++
		}
	}
	if n != 64 || !h.Valid("199") || !h.Valid("136") {
		t.Errorf("%d certificates count", n)
	}
}

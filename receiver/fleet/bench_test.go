package fleet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/contacts"
)

// BenchmarkRun is a run over 2,000 hosts and 20,000 rows in the window, with
// little and with much history before it: what it costs must not grow with
// history.
func BenchmarkRun(b *testing.B) {
	for _, history := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("history=%d", history), func(b *testing.B) {
			dir := b.TempDir()
			f, err := os.Create(filepath.Join(dir, "index.jsonl"))
			if err != nil {
				b.Fatal(err)
			}
			w := bufio.NewWriter(f)
			const digest = "0123456789012345678901234567890123456789012345678901234567890123"
			put := func(at time.Time, i int) {
				_, _ = fmt.Fprintf(
					w,
					`{"v":1,"received_at":%q,"host":"lab-%04d","episode":"01ARZ3NDEKTSV4RRFFQ69G5FAV","sha256":%q,"size":4096,"commit":%q}`+"\n",
					at.Format(time.RFC3339Nano),
					i%2000,
					digest,
					digest[:40],
				)
			}
			for i := range history {
				put(ago(25*time.Hour+time.Duration(history-i)*time.Second), i)
			}
			for i := range 20_000 {
				put(ago(time.Duration(20_000-i)*time.Second), i)
			}
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			book := contacts.Contacts{WrittenAt: now, Receiver: contacts.Receiver{Ready: true}, Hosts: map[ident.Host]*contacts.Contact{}}
			for i := range 2000 {
				book.Hosts[ident.Host(fmt.Sprintf("lab-%04d", i))] = &contacts.Contact{
					LastPing:     ago(time.Minute),
					LastContact:  ago(time.Minute),
					LastAccepted: ago(time.Minute),
				}
			}
			c, err := json.Marshal(book)
			if err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, receiver.ContactsDoc), c, 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				facts, err := Gather(Source{Backend: onDisk(dir)}, now, limits())
				if err != nil || len(facts.Hosts) != 2000 {
					b.Fatal(len(facts.Hosts), err)
				}
				facts.Known = func(string) (k check.Check, ok bool) { return }
				if found, _ := Judge(facts); len(found) != 0 {
					b.Fatal(found[0])
				}
			}
		})
	}
}

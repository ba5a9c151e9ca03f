//go:build e2e

package solo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// entrySize is what the journal needs for a line at most, in bytes: its text, the fields of
// the log and those that journald adds.
const entrySize = 2 << 10

// TestDay_FitsTheJournal: the requests of 2,000 hosts in a day add at most 50 MB to the
// journal: pings and polls every 5 minutes, and one health report.
func TestDay_FitsTheJournal(t *testing.T) {
	const hosts, identities = 2000, 40
	perDay := int(24 * time.Hour / (5 * time.Minute))
	r := newHarness(t, "")
	r.logs = "info"
	r.start()
	var all sync.WaitGroup
	began := time.Now()
	for i := range identities {
		h := r.enroll(ident.Host(fmt.Sprintf("lab-%02d", i)))
		all.Go(func() {
			ask := func(method, path, body string, want ...int) {
				req, err := http.NewRequestWithContext(context.Background(), method, "https://"+r.addr+path, bytes.NewReader([]byte(body)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer bearer-"+string(h.name))
				res, err := h.client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if !slices.Contains(want, res.StatusCode) {
					t.Errorf("%s %s: %d %s", method, path, res.StatusCode, text)
				}
			}
			for range hosts / identities {
				ask(http.MethodPut, wire.HostHealthPath+"/"+string(h.name), `{"schema":"cis490.doctor/1","checks":[]}`,
					http.StatusCreated, http.StatusOK)
				for range perDay {
					if t.Failed() {
						return
					}
					ask(http.MethodPost, wire.PingPath, `{"version":"1","commit":"`+commit+`","boot_id":"x"}`, http.StatusOK)
					ask(http.MethodGet, wire.ReleasesPath+"?os=linux&arch=amd64&host="+string(h.name), "", http.StatusNotFound)
				}
			}
		})
	}
	all.Wait()
	r.stop()
	lines := bytes.Count(r.log.Bytes(), []byte("\n"))
	t.Logf("%d requests in %s: %d lines, at most %d KiB of journal",
		hosts*(2*perDay+1), time.Since(began).Round(time.Second), lines, lines*entrySize>>10)
	if lines*entrySize > 50e6 {
		t.Errorf("%d lines: %.2000s", lines, r.log)
	}
}

package server_test

import (
	"net/http"
	"strings"
	"testing"

	"cis490/internal/wire"
)

// TestAccess_RoutineIsNotLogged: what 2,000 hosts repeat every few minutes adds
// nothing to the journal, which shows info and above.
func TestAccess_RoutineIsNotLogged(t *testing.T) {
	r := newHarness(t)
	a := r.enrol("lab-a")
	r.eventually("it is ready", func() bool { return strings.Contains(r.log.String(), "msg=ready") })
	for what, request := range map[string]struct {
		method, path, body string
		status             int
	}{
		"a ping":        {http.MethodPost, wire.PingPath, `{"commit":"` + string(own) + `"}`, 200},
		"a poll":        {http.MethodGet, wire.ReleasesPath + "?os=linux&arch=amd64&host=lab-a", "", 404},
		"a snapshot":    {http.MethodPut, wire.HostHealthPath + "/lab-a", `{"schema":"cis490.doctor/1","checks":[]}`, 201},
		"a look around": {http.MethodGet, wire.ReadyzPath, "", 200},
	} {
		before := len(r.log.String())
		if status, text := a.send(t, request.method, request.path, request.body); status != request.status {
			t.Errorf("%s: %d %s", what, status, text)
		}
		for line := range strings.Lines(r.log.String()[before:]) {
			if !strings.Contains(line, "level=DEBUG") {
				t.Errorf("%s: %s", what, line)
			}
		}
	}
	before := len(r.log.String())
	a.do(a.request(ep1, "one"))
	if !strings.Contains(r.log.String()[before:], "level=INFO msg=request") {
		t.Error("an upload is not logged")
	}
}

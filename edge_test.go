package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestEdges gives each kind of input and output one package: wire.Decode decodes documents
// from other machines, httpclient makes clients, and text is printed by the writers that
// main passes on.
func TestEdges(t *testing.T) {
	rules := []struct {
		pattern string
		under   []string // where the rule holds; empty: everywhere
		except  []string
		why     string
	}{
		{
			`\bhttp\.(Client\{|DefaultClient\b|DefaultTransport\b|Get\(|Head\(|Post\(|PostForm\()`, nil,
			[]string{"internal/httpclient/", "receiver/notify/targets.go", "e2e/"},
			"httpclient.New makes the clients: bounds, and no redirects",
		},
		{
			`\bjson\.(RawMessage|NewDecoder)\b|json\.Unmarshal\(`,
			[]string{"receiver/server/", "receiver/authority/", "receiver/contacts/snapshots.go", "agent/client/", "agent/enroll/"},
			[]string{"receiver/authority/tokens.go", "receiver/authority/receivers.go", "agent/client/clienttest/"},
			"wire.Decode bounds what another machine sends",
		},
		{
			`\bjson\.(NewEncoder|Marshal)\(`,
			[]string{"receiver/server/http.go", "receiver/authority/http.go", "receiver/contacts/snapshots.go", "receiver/notify/targets.go"},
			nil, "wire.Encode escapes what people and programs are sent",
		},
		{
			`\bos\.Std(out|err)\b|\bfmt\.Print`, nil,
			[]string{"main.go", "agent/orchestrate/supervise.go", "assets/notices/", "receiver/pg/pgtest/state/", "e2e/"},
			"text leaves through the Env that escapes it",
		},
	}
	for _, r := range rules {
		bad := regexp.MustCompile(r.pattern)
		for path, content := range goFiles(t) {
			if strings.HasSuffix(path, "_test.go") || len(r.under) > 0 && !begins(path, r.under) || begins(path, r.except) {
				continue
			}
			for _, found := range bad.FindAllString(content, -1) {
				t.Errorf("%s has %s: %s", path, found, r.why)
			}
		}
	}
}

func begins(path string, with []string) bool {
	for _, w := range with {
		if strings.HasPrefix(path, w) {
			return true
		}
	}
	return false
}

package ship_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"cis490/agent/ship"
	"cis490/internal/wire"
)

// TestRules_AreTold: every answer has its rule, and docs/shipping.md describes each in the
// words of the code.
func TestRules_AreTold(t *testing.T) {
	page, err := os.ReadFile("../../docs/shipping.md")
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[wire.Action][]string{wire.Retire: {"200", "201"}, wire.Network: {"none", "or not from a cis490 receiver"}}
	for _, a := range wire.Answers() {
		if a.Kind == wire.BadCSR {
			continue // the authority's alone
		}
		if s := fmt.Sprint(a.Status); !slices.Contains(statuses[a.Action], s) {
			statuses[a.Action] = append(statuses[a.Action], s)
		}
	}
	for _, r := range ship.Rules() {
		if r.Action != wire.Network {
			slices.Sort(statuses[r.Action])
		}
		row := fmt.Sprintf("\n| %s | %s |\n", strings.Join(statuses[r.Action], ", "), r.Does)
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/shipping.md lacks the row%s", row)
		}
		delete(statuses, r.Action)
	}
	if len(statuses) > 0 {
		t.Errorf("no rule for %v", statuses)
	}
}

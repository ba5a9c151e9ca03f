package commands

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/urfave/cli/v2"

	"cis490/agent/enroll"
	"cis490/install/update"
	"cis490/internal/check"
	"cis490/internal/manifest"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/archive"
	"cis490/receiver/authority"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
	"cis490/receiver/fleet"
	"cis490/receiver/pg"
	"cis490/receiver/server"
	"cis490/receiver/storecopy"
)

// printed returns an example of each document that a command prints with --json.
func printed() map[string][]any {
	return map[string][]any{
		"alerts list":       {[]fleet.Alert{}},
		"alerts silence":    {receiver.Silence{}},
		"archive":           {archive.Result{}},
		"autoupdate":        {update.Result{}},
		"backup":            {backedUp{}},
		"ca rotate":         {authority.CAInfo{}},
		"ca retire":         {authority.CAInfo{}},
		"ca show":           {authority.CAInfo{}},
		"cert-fetch":        {enroll.Status{}},
		"access-token list": {[]receiver.Token{}},
		"doctor":            {check.Report{}, []checkListed{}},
		"episode catalogue": {server.CatalogueState{}},
		"episode list":      {catalogue.Page{}, []episodeRow{}},
		"episode show":      {shown{}},
		"episode verify":    {[]verified{}},
		"explain":           {[]explained{}},
		"export":            {export.Manifest{}},
		"fleet-check":       {fleetChecked{}},
		"host approve":      {authority.Approved{}},
		"host list":         {[]hostRow{}},
		"host pending":      {[]authority.Waiting{}},
		"host show":         {hostShown{}},
		"notify test":       {[]delivered{}},
		"receiver list":     {[]authority.ReceiverInfo{}},
		"reconcile":         {reconciled{}},
		"restore":           {backedUp{}},
		"release list":      {[]manifest.Progress{}},
		"ship":              {wire.Pong{}},
		"status":            {receiverStatus{}, labHostStatus{}},
		"store copy":        {storecopy.Result{}},
		"store scrub":       {receiver.Comparison{}},
		"store verify":      {storeVerified{}},
		"ledger status":     {pg.Status{}},
		"token create":      {[]authority.CreatedToken{}},
		"token list":        {[]authority.TokenInfo{}},
		"version":           {version.Info{}},
	}
}

// TestSchemas_OfJSON: docs/json.schema.json describes what each command prints with --json.
// `make golden` writes it.
func TestSchemas_OfJSON(t *testing.T) {
	all := printed()
	(&app{}).eachLeaf(func(path string, c *cli.Command) {
		takes := slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "json") })
		if _, ok := all[path]; takes != ok {
			t.Errorf("%s: --json %t, and in printed() %t", path, takes, ok)
		}
	})
	o := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time"}, reflect.TypeFor[json.RawMessage](): {},
	}}
	root := &jsonschema.Schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", Title: "What the commands print with --json, by command",
		Defs: map[string]*jsonschema.Schema{},
	}
	for command, documents := range all {
		var of []*jsonschema.Schema
		for _, d := range documents {
			s, err := jsonschema.ForType(reflect.TypeOf(d), o)
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			of = append(of, s)
		}
		if root.Defs[command] = of[0]; len(of) > 1 {
			root.Defs[command] = &jsonschema.Schema{AnyOf: of}
		}
	}
	want, err := json.MarshalIndent(root, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	const path = "../docs/json.schema.json"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
		t.Errorf("%s is not what the commands print (make golden): %v\n%s", path, err, diff)
	}
}

// eachLeaf calls a function for each command without subcommands.
func (a *app) eachLeaf(do func(path string, c *cli.Command)) {
	var walk func(path []string, all []*cli.Command)
	walk = func(path []string, all []*cli.Command) {
		for _, c := range all {
			if at := append(slices.Clip(path), c.Name); len(c.Subcommands) > 0 {
				walk(at, c.Subcommands)
			} else if !c.Hidden {
				do(strings.Join(at, " "), c)
			}
		}
	}
	walk(nil, a.commands())
}

package orchestrate

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/dictionary"
	"cis490/internal/episode"
)

// TestDictionary_DescribesWhatIsRecorded compares the dictionary with the types that the
// recorder writes, both ways: names, types and whether a key may be absent.
func TestDictionary_DescribesWhatIsRecorded(t *testing.T) {
	written := map[string]any{
		episode.MetaFile: episode.Meta{}, episode.LabelsFile: episode.Label{}, episode.EventsFile: episode.Event{},
		episode.TelemetryFile(processSource): processRow{}, episode.TelemetryFile(pressureSource): pressureRow{},
		episode.TelemetryFile(qmpSource): qmpRow{},
	}
	for _, f := range dictionary.Files() {
		described, emitted := map[string]string{}, map[string]string{}
		for _, k := range f.Keys {
			described[k.Name] = string(k.Type)
			if k.Optional {
				described[k.Name] += "?"
			}
		}
		keysOf(reflect.TypeOf(written[f.Name]), "", emitted)
		if diff := cmp.Diff(described, emitted); diff != "" {
			t.Errorf("%s: the dictionary (-) and the recorder (+) differ:\n%s", f.Name, diff)
		}
		delete(written, f.Name)
	}
	for name := range maps.Keys(written) {
		t.Errorf("the dictionary has no %s", name)
	}
}

// keysOf collects the keys that encoding/json writes for a type, with their types; a ? is
// for those that may be absent.
func keysOf(t reflect.Type, at string, into map[string]string) {
	for field := range t.Fields() {
		if field.Anonymous {
			keysOf(field.Type, at, into)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		optional := ""
		if options != "" {
			optional = "?"
		}
		valueOf(field.Type, at+name, optional, into)
	}
}

func valueOf(t reflect.Type, at, optional string, into map[string]string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	kind := dictionary.Integer
	switch {
	case t == reflect.TypeFor[time.Time]():
		kind = dictionary.Time
	case t.Kind() == reflect.Struct:
		if !strings.HasSuffix(at, "[]") && !strings.HasSuffix(at, "{}") {
			into[at] = string(dictionary.Object) + optional
		}
		keysOf(t, at+".", into)
		return
	case t.Kind() == reflect.Slice:
		kind = dictionary.List
		valueOf(t.Elem(), at+"[]", "", into)
	case t.Kind() == reflect.Map:
		kind = dictionary.Map
		valueOf(t.Elem(), at+"{}", "", into)
	case t.Kind() == reflect.String:
		kind = dictionary.String
	case t.Kind() == reflect.Bool:
		kind = dictionary.Boolean
	case t.Kind() == reflect.Float64:
		kind = dictionary.Number
	}
	into[at] = string(kind) + optional
}

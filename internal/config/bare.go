package config

import (
	"fmt"
	"reflect"

	"github.com/pelletier/go-toml/v2"
)

// bareNumbers rejects numbers that the decoder accepts for a Duration or Size without
// calling UnmarshalText: a number without a unit would mean nanoseconds, and a negative
// size fits nothing.
func bareNumbers(content []byte, c any) []error {
	var tree map[string]any
	if err := toml.Unmarshal(content, &tree); err != nil {
		return nil // the decoding into c reports it
	}
	var p problems
	p.bare("", tree, reflect.TypeOf(c))
	return p.all
}

func (p *problems) bare(key string, v any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case int64:
		switch {
		case t == reflect.TypeFor[Duration]():
			p.add(key, "want a duration such as \"90s\", \"5m\" or \"24h\", got %d without a unit", v)
		case t == reflect.TypeFor[Size]() && v < 0:
			p.add(key, "want a size such as \"64KiB\" or \"2GiB\", got %d", v)
		}
	case []any:
		if t.Kind() == reflect.Slice {
			for i, e := range v {
				p.bare(fmt.Sprintf("%s[%d]", key, i), e, t.Elem())
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return
		}
		if key != "" {
			key += "."
		}
		for f := range t.Fields() {
			if e, ok := v[f.Tag.Get("toml")]; ok {
				p.bare(key+f.Tag.Get("toml"), e, f.Type)
			}
		}
	}
}

package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cis490/internal/plain"
)

// Bounds on a document, in addition to its size. They apply to unknown keys too.
const (
	MaxDepth = 16      // nested objects and lists
	MaxCount = 1 << 48 // largest integer: a sum over a fleet does not overflow
)

// Checker is a part of a document with its own bounds.
type Checker interface {
	// Check returns an error that names the invalid field.
	Check() error
}

// Encode returns v as JSON with hidden characters escaped. Every document that the receiver
// sends or stores is encoded by it.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return plain.Escape(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// Decode decodes a JSON document into v. It returns an error with the position if the
// document is not UTF-8, nests deeper than MaxDepth, has a duplicate key (ignoring case),
// has trailing data, or contains an invalid value: another type, an integer that is
// negative or over MaxCount, a time whose year in UTC is not 0 to 9999, or what a Checker
// rejects. It converts times to UTC. Unknown keys are ignored, because a newer sender may
// use them.
func Decode(b []byte, v any) error {
	if err := scan(b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	return bound("", reflect.ValueOf(v).Elem())
}

// scan checks what json.Unmarshal does not, without building the document. It may accept a
// document with another syntax, which json.Unmarshal rejects.
func scan(b []byte) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("byte %d is not UTF-8", validPrefix(b))
	}
	type level struct {
		keys map[string]bool // nil: a list
		key  bool            // a key comes next
	}
	var open []level
	for i := 0; i < len(b); i++ {
		var top *level
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		switch c := b[i]; {
		case c == ' ', c == '\t', c == '\r', c == '\n':
		case c == '{', c == '[':
			if len(open) == MaxDepth {
				return fmt.Errorf("nested deeper than %d levels at byte %d", MaxDepth, i)
			}
			l := level{}
			if c == '{' {
				l = level{keys: map[string]bool{}, key: true}
			}
			open = append(open, l)
		case top == nil:
			return cmp.Or(json.Unmarshal(b, new(json.RawMessage)), errors.New("want an object or a list"))
		case c == '}', c == ']':
			if open = open[:len(open)-1]; len(open) == 0 {
				return nil // json.Unmarshal rejects trailing data
			}
		case c == ',':
			top.key = top.keys != nil
		case c == '"':
			from := i
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if !top.key || i >= len(b) {
				continue
			}
			name := string(b[from+1 : i])
			if strings.Contains(name, `\`) && json.Unmarshal(b[from:i+1], &name) != nil {
				return nil
			}
			same := fold(name)
			if top.keys[same] {
				return fmt.Errorf("duplicate key %.80q at byte %d", name, i+1)
			}
			top.keys[same], top.key = true, false
		}
	}
	return nil
}

// validPrefix returns how many bytes come before the first that is not UTF-8.
func validPrefix(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// fold maps keys that encoding/json treats as the same field to the same string.
func fold(key string) string {
	if !strings.ContainsFunc(key, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return strings.ToUpper(key) // same result, but faster
	}
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

// bound checks the values of a document.
func bound(path string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return bound(path, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := bound(fmt.Sprintf("%s[%d]", path, i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		most := int64(MaxCount)
		if v.Type() == reflect.TypeFor[time.Duration]() {
			most = int64(100 * 365 * 24 * time.Hour)
		}
		if n := v.Int(); n < 0 || n > most {
			return fmt.Errorf("%s: want 0 to %d, got %d", path, most, n)
		}
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		if n := v.Uint(); n > MaxCount {
			return fmt.Errorf("%s: want 0 to %d, got %d", path, uint64(MaxCount), n)
		}
	case reflect.Struct:
		return boundStruct(path, v)
	}
	return nil
}

func boundStruct(path string, v reflect.Value) error {
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
			return fmt.Errorf("%s: the time is in the year %d of UTC, want 0 to 9999", path, t.Year())
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	for f := range v.Type().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		if f.Anonymous {
			at = path
		}
		if err := bound(at, v.FieldByIndex(f.Index)); err != nil {
			return err
		}
	}
	if c, ok := reflect.TypeAssert[Checker](v.Addr()); ok {
		if err := c.Check(); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(path+".", "."), err)
		}
	}
	return nil
}

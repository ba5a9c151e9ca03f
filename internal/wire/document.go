package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// scan checks the syntax of a document without building it.
func scan(b []byte) error {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Errorf("byte %d is not UTF-8", i)
		}
		i += n
	}
	type level struct {
		keys map[string]bool // nil: a list
		key  bool            // a key comes next
	}
	var open []level
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil // json.Unmarshal rejects an incomplete document
		}
		if err != nil {
			return err
		}
		d, structure := t.(json.Delim)
		if len(open) == 0 && !structure {
			return errors.New("want an object or a list")
		}
		if structure && (d == '}' || d == ']') {
			open = open[:len(open)-1]
			if len(open) == 0 {
				return nil // json.Unmarshal rejects trailing data
			}
			continue
		}
		if len(open) > 0 {
			top := &open[len(open)-1]
			if name, ok := t.(string); top.key && ok {
				same := fold(name)
				if top.keys[same] {
					return fmt.Errorf("duplicate key %.80q at byte %d", name, dec.InputOffset())
				}
				top.keys[same], top.key = true, false
				continue
			}
			top.key = top.keys != nil
		}
		if structure {
			if len(open) == MaxDepth {
				return fmt.Errorf("nested deeper than %d levels at byte %d", MaxDepth, dec.InputOffset())
			}
			l := level{}
			if d == '{' {
				l = level{keys: map[string]bool{}, key: true}
			}
			open = append(open, l)
		}
	}
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

package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"cis490/internal/dictionary"
)

// decoder reads rows of JSON into cells. encoding/json would need most of the time of an
// export: it checks each row before it decodes it, and a type that is made at run time is
// decoded by reflection. Where a row is unusual, the decoder leaves it to encoding/json.
type decoder struct {
	format *format
	rows   [][]cell // by level: that of the row itself, and those of its lists' elements
	line   []byte
	at     int
	texts  map[string][]byte // by their JSON
}

// Bounds of the texts that are kept, because the same ones come again, and of the cells that
// a row of JSON may have in a table: those of tens of thousands of processes.
const (
	maxTexts    = 4096
	maxTextSize = 64
	maxRowCells = 1 << 20
)

var errSyntax = errors.New("not JSON")

func (d *decoder) begin(f *format) {
	d.format = f
	d.rows = append(d.rows[:0], make([][]cell, len(f.levels))...)
	if d.texts == nil || len(d.texts) >= maxTexts {
		d.texts = map[string][]byte{}
	}
}

// row reads a row into rows. A value that is null or not there is an empty cell, and a key
// that the format does not have is skipped.
func (d *decoder) row(line []byte) error {
	d.line, d.at = line, 0
	for i := range d.rows {
		d.rows[i] = d.rows[i][:0]
	}
	if d.next() != '{' {
		return d.wrong("an object")
	}
	if err := d.element(d.format.top, 0); err != nil {
		return err
	}
	if d.next(); d.at < len(d.line) {
		return d.wrong("the end of the line")
	}
	return nil
}

// element reads an object into a new row of a level.
func (d *decoder) element(n *node, level int) error {
	base := len(d.rows[level])
	if base > maxRowCells {
		return fmt.Errorf("more than %d elements", base/len(d.format.levels[level].leaves))
	}
	d.rows[level] = append(d.rows[level], make([]cell, len(d.format.levels[level].leaves))...)
	return d.object(n, level, base)
}

func (d *decoder) wrong(want string) error {
	return fmt.Errorf("%w at byte %d: want %s", errSyntax, d.at+1, want)
}

// next returns the next byte that is not white space, or 0 at the end.
func (d *decoder) next() byte {
	for ; d.at < len(d.line); d.at++ {
		switch c := d.line[d.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// object reads an object's values into the row of a level that begins at base.
func (d *decoder) object(n *node, level, base int) error {
	d.at++
	if d.next() == '}' {
		d.at++
		return nil
	}
	for last := none; ; d.at++ {
		if d.next() != '"' {
			return d.wrong("a key")
		}
		name, err := d.text()
		if err != nil {
			return err
		}
		if d.next() != ':' {
			return d.wrong("a colon")
		}
		d.at++
		var child *node
		if child, last = n.child(name, last); child != nil {
			err = d.value(child, level, base)
		} else {
			err = d.skip()
		}
		if err != nil {
			return fmt.Errorf("%.40s: %w", name, err)
		}
		switch d.next() {
		case ',':
		case '}':
			d.at++
			return nil
		default:
			return d.wrong("a comma or the end of the object")
		}
	}
}

// value reads the value of a key.
func (d *decoder) value(n *node, level, base int) error {
	first := d.next()
	if first == 'n' {
		return d.skip()
	}
	switch n.kind {
	case dictionary.Object:
		if first != '{' {
			return d.wrong("an object")
		}
		return d.object(n, level, base)
	case dictionary.List:
		if first != '[' {
			return d.wrong("a list")
		}
		return d.list(n)
	}
	c, err := d.leaf(n.kind, first)
	if err == nil && n.leaf != none {
		d.rows[level][base+n.leaf] = c
	}
	return err
}

// list reads the elements of a list, which are objects, into the rows of its level.
func (d *decoder) list(n *node) error {
	d.rows[n.level] = d.rows[n.level][:0]
	d.at++
	if d.next() == ']' {
		d.at++
		return nil
	}
	for ; ; d.at++ {
		if d.next() != '{' {
			return d.wrong("an object")
		}
		if err := d.element(n, n.level); err != nil {
			return err
		}
		switch d.next() {
		case ',':
		case ']':
			d.at++
			return nil
		default:
			return d.wrong("a comma or the end of the list")
		}
	}
}

// leaf reads a number, a text or a truth.
func (d *decoder) leaf(k dictionary.Type, first byte) (cell, error) {
	switch k {
	case dictionary.Integer:
		return d.integer()
	case dictionary.String, dictionary.Time:
		if first != '"' {
			return cell{}, d.wrong("a text")
		}
		s, err := d.text()
		return cell{set: true, s: s}, err
	}
	begin := d.at
	if err := d.skip(); err != nil {
		return cell{}, err
	}
	raw := bytes.TrimSpace(d.line[begin:d.at])
	if k == dictionary.Boolean && (first == 't' || first == 'f') {
		return truth(first == 't'), nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if k == dictionary.Boolean || err != nil {
		return cell{}, fmt.Errorf("%.40q is not a %s", raw, k)
	}
	return real(f), nil
}

// integer reads a number without a fraction.
func (d *decoder) integer() (cell, error) {
	begin, negative, n := d.at, false, int64(0)
	if d.at < len(d.line) && d.line[d.at] == '-' {
		negative = true
		d.at++
	}
	digits := d.at
	for ; d.at < len(d.line) && d.line[d.at] >= '0' && d.line[d.at] <= '9'; d.at++ {
		n = n*10 + int64(d.line[d.at]-'0')
	}
	switch size := d.at - digits; {
	case size == 0 || size > 1 && d.line[digits] == '0',
		d.at < len(d.line) && (d.line[d.at] == '.' || d.line[d.at]|0x20 == 'e'):
		return cell{}, d.wrong("an integer")
	case size > 18: // n may have overflowed
		var err error
		if n, err = strconv.ParseInt(string(d.line[begin:d.at]), 10, 64); err != nil {
			return cell{}, err
		}
	case negative:
		n = -n
	}
	return num(n), nil
}

// text reads a text that begins here.
func (d *decoder) text() ([]byte, error) {
	begin, plain := d.at, true
	for d.at++; d.at < len(d.line) && d.line[d.at] != '"'; d.at++ {
		if c := d.line[d.at]; c < ' ' || c == '\\' || c >= 0x80 {
			if plain = false; c == '\\' {
				d.at++
			}
		}
	}
	if d.at++; d.at > len(d.line) {
		d.at = len(d.line)
		return nil, d.wrong("the end of a text")
	}
	raw := d.line[begin:d.at]
	if s, ok := d.texts[string(raw)]; ok {
		return s, nil
	}
	s := bytes.Clone(raw[1 : len(raw)-1])
	if !plain {
		var decoded string
		if err := json.Unmarshal(raw, &decoded); err != nil {
			return nil, err
		}
		s = []byte(decoded)
	}
	if len(raw) <= maxTextSize && len(d.texts) < maxTexts {
		d.texts[string(raw)] = s
	}
	return s, nil
}

// skip passes over a value, whatever it is.
func (d *decoder) skip() error {
	d.next()
	begin, depth := d.at, 0
	for ; d.at < len(d.line); d.at++ {
		switch c := d.line[d.at]; c {
		case '"':
			for d.at++; d.at < len(d.line) && d.line[d.at] != '"'; d.at++ {
				if d.line[d.at] == '\\' {
					d.at++
				}
			}
			continue
		case '[', '{':
			depth++
			continue
		case ']', '}':
			depth--
		}
		if c := d.line[d.at]; depth < 0 || depth == 0 && c == ',' {
			break
		}
	}
	d.at = min(d.at, len(d.line))
	if !json.Valid(d.line[begin:d.at]) {
		d.at = begin
		return d.wrong("a value")
	}
	return nil
}

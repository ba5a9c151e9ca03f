package export

import (
	"encoding/binary"
	"errors"
	"maps"
)

// converter turns rows of JSON into rows of tables.
type converter struct {
	*reading
	*format
	label int                 // index of the current label, plus one
	last  map[string]*lastRow // of each table and element, for rates
	id    []byte
}

// lastRow is what rates are computed from.
type lastRow struct {
	mono     int64
	counters []counter
}

type counter struct {
	set   bool
	value int64
}

// maxLast is how many elements are known, beyond those of a row. Then those are forgotten
// that the row does not have, such as processes that ended.
const maxLast = 4096

// convert hands the row that was decoded to the sink: it, and the elements of its lists.
func (c *converter) convert() error {
	top := c.decoder.rows[0]
	mono := top[c.mono]
	if !mono.set {
		return errors.New("no t_mono_ns")
	}
	if c.label > 0 && c.labels[c.label-1].Mono > mono.i {
		c.label = 0
	}
	for c.label < len(c.labels) && c.labels[c.label].Mono <= mono.i {
		c.label++
	}
	for i := range c.levels {
		l, rows := &c.levels[i], c.decoder.rows[i]
		for width := len(l.leaves); len(rows) > 0; rows = rows[width:] {
			c.cells = append(append(c.cells[:0], c.names[:]...), c.phases[c.label][:]...)
			if i > 0 {
				c.cells = append(c.cells, top[c.wall], mono)
			}
			c.cells = append(c.cells, rows[:width]...)
			if l.counters > 0 {
				c.addRates(i, rows[:width], mono.i)
			}
			if err := c.out.row(l.table, c.cells); err != nil {
				return err
			}
		}
	}
	if len(c.last) > maxLast {
		maps.DeleteFunc(c.last, func(_ string, l *lastRow) bool { return l.mono != mono.i })
	}
	return nil
}

// addRates appends the growth of each counter since the row before of the same element.
func (c *converter) addRates(level int, values []cell, mono int64) {
	l := &c.levels[level]
	c.id = append(c.id[:0], byte(level))
	for _, i := range l.ids {
		c.id = append(binary.BigEndian.AppendUint64(c.id, uint64(values[i].i)), values[i].s...)
	}
	before := c.last[string(c.id)]
	if before == nil {
		before = &lastRow{mono, make([]counter, l.counters)}
		c.last[string(c.id)] = before
	}
	passed, n := float64(mono-before.mono)/1e9, 0
	for i, leaf := range l.leaves {
		if !leaf.counter {
			continue
		}
		was, now, rate := before.counters[n], counter{values[i].set, values[i].i}, cell{}
		if passed > 0 && was.set && now.set {
			rate = real(float64(now.value-was.value) / passed)
		}
		before.counters[n] = now
		c.cells, n = append(c.cells, rate), n+1
	}
	before.mono = mono
}

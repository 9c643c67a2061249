package sql

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

const mapColumn = "attributes"

// field is what a query takes of a record: a column, or an attribute.
type field struct {
	name   string
	kind   Kind
	column segment.Column // of the attributes it is their keys
	key    string         // of an attribute; the empty one is the whole map
}

// fields of the table by name, and their names in the order of the schema.
func fields() (map[string]field, []string) {
	byName, names := make(map[string]field), []string{}
	add := func(f field) { byName[f.name], names = f, append(names, f.name) }
	for c := segment.Start; c < segment.AttributeKeys; c++ {
		add(field{name: c.String(), kind: kindOf(c), column: c})
	}
	add(field{name: mapColumn, kind: KindMap, column: segment.AttributeKeys})
	return byName, names
}

func kindOf(c segment.Column) Kind {
	switch c {
	case segment.Start:
		return KindTime
	case segment.Duration, segment.FirstByte, segment.Code, segment.GRPCStatus, segment.BytesIn, segment.BytesOut, segment.Attempts:
		return KindInt
	case segment.Sampled:
		return KindBool
	}
	return KindText
}

// table is the records that are looked at, as columns: some rows of a row group,
// or what a look-up found.
type table struct {
	fields  []field // that the query takes
	rows    *segment.Rows
	found   []segment.Found
	picked  []int32 // rows of either
	loaded  []bool
	vectors []vector
	scratch []Value
}

// columns are those that a scan is to read.
func (t *table) columns() (list []segment.Column) {
	for _, f := range t.fields {
		list = append(list, f.column)
		if f.column == segment.AttributeKeys {
			list = append(list, segment.AttributeValues)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// pick says of which rows the table is from now on.
func (t *table) pick(rows []int32) {
	t.picked = rows
	if t.vectors == nil {
		t.vectors, t.loaded = make([]vector, len(t.fields)), make([]bool, len(t.fields))
	}
	clear(t.loaded)
}

func (t *table) batch() *batch { return &batch{n: len(t.picked), slot: t.slot} }

func (t *table) slot(i int) *vector {
	v := &t.vectors[i]
	if !t.loaded[i] {
		t.loaded[i] = true
		if t.rows == nil {
			t.loadFound(v, &t.fields[i])
		} else {
			t.load(v, &t.fields[i])
		}
	}
	return v
}

func (t *table) load(v *vector, f *field) {
	switch f.column {
	case segment.TraceID, segment.SpanID, segment.ParentSpanID:
		t.loadIDs(v, f.column)
		return
	case segment.AttributeKeys:
		t.loadAttributes(v, f)
		return
	}
	if f.kind == KindText {
		t.loadTexts(v, f.column)
		return
	}
	all := t.rows.Ints(f.column)
	if all == nil { // of a segment older than the column
		*v = vector{} // its memory may be that of the rows
		v.reset(f.kind, len(t.picked))
		v.allNull(len(t.picked))
		return
	}
	if len(all) == len(t.picked) && f.column != segment.GRPCStatus {
		*v = vector{kind: f.kind, ints: all[:len(all):len(all)]}
		return
	}
	ints := make([]int64, len(t.picked))
	*v = vector{kind: f.kind, ints: ints}
	for i, row := range t.picked {
		ints[i] = all[row]
	}
	if f.column == segment.GRPCStatus { // one above the status
		for i := range ints {
			if ints[i]--; ints[i] < 0 {
				v.setNull(i, len(ints))
			}
		}
	}
}

func (t *table) loadTexts(v *vector, c segment.Column) {
	dict, codes := t.rows.Texts(c)
	if codes == nil {
		*v = vector{} // its memory may be that of the rows
		v.reset(KindText, len(t.picked))
		v.allNull(len(t.picked))
		v.dict = append(v.dict, "")
		clear(v.codes)
		return
	}
	*v = vector{kind: KindText, dict: dict[:len(dict):len(dict)], codes: codes[:len(codes):len(codes)]}
	if len(codes) != len(t.picked) {
		v.codes = make([]uint32, len(t.picked))
		for i, row := range t.picked {
			v.codes[i] = codes[row]
		}
	}
}

// loadIDs writes the IDs out. Rows of a trace stand together, so most have that
// of the row before.
func (t *table) loadIDs(v *vector, c segment.Column) {
	v.reset(KindText, len(t.picked))
	var last ids.TraceID
	for i, row := range t.picked {
		var text string
		if c == segment.TraceID {
			id := ids.TraceID(t.rows.TraceID(row))
			if i > 0 && id == last {
				v.codes[i] = v.codes[i-1]
				continue
			}
			last, text = id, id.UUID()
		} else {
			id := t.rows.SpanID(c, row)
			text = hex.EncodeToString(id[:])
		}
		v.codes[i] = uint32(len(v.dict))
		v.dict = append(v.dict, text)
	}
}

func (t *table) loadAttributes(v *vector, f *field) {
	t.scratch = t.scratch[:0]
	for _, row := range t.picked {
		keys, values := t.rows.List(segment.AttributeKeys, row), t.rows.List(segment.AttributeValues, row)
		attributes := func(yield func(k, v string) bool) {
			for i := range min(len(keys), len(values)) {
				if !yield(keys[i], values[i]) {
					return
				}
			}
		}
		t.scratch = append(t.scratch, f.attribute(attributes))
	}
	v.take(f.kind, t.scratch)
}

// attribute is the value of one key, or the whole as a JSON object.
func (f *field) attribute(all func(func(k, v string) bool)) Value {
	if f.kind == KindMap {
		b, err := json.Marshal(maps.Collect(all))
		if err != nil {
			b = []byte("{}") // texts can always be written
		}
		return Value{Kind: KindMap, Text: string(b)}
	}
	for k, v := range all {
		if k == f.key {
			return Value{Kind: KindText, Text: v}
		}
	}
	return Value{}
}

func (t *table) loadFound(v *vector, f *field) {
	t.scratch = t.scratch[:0]
	for _, row := range t.picked {
		r := &t.found[row]
		var value Value
		if f.column == segment.AttributeKeys {
			value = f.attribute(maps.All(r.Record.Attributes))
		} else {
			value = foundValue(r, f.column)
		}
		t.scratch = append(t.scratch, value)
	}
	v.take(f.kind, t.scratch)
}

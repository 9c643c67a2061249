package segment

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

// absorber adds rows of other segments to a window, column by column: codes
// become the window's own, and no row is ever put together. Its memory is used
// again.
type absorber struct {
	codes  []uint32 // of a text column: what an entry became, one above; 0 if not met
	ids    []uint32 // of each row: its origin
	pairs  []uint64 // see refine
	round  uint64
	firsts []int32 // of each origin: a row that has it
	sets   map[string]uint32
	key    []byte
}

// add takes the selected rows of r, of which there are some and all of whose
// columns are loaded.
func (a *absorber) add(w *window, r *Rows) {
	for c := range w.ints {
		w.ints[c] = appendSelected(w.ints[c], r.Ints(Column(c)), r)
	}
	w.ids[0] = a.appendTraces(w.ids[0], r)
	w.ids[1] = appendIDs(w.ids[1], SpanID, r)
	w.ids[2] = appendIDs(w.ids[2], ParentSpanID, r)
	a.addOrigins(w, r)
	for c := firstText; c <= lastText; c++ {
		a.addTexts(&w.texts[c-firstText], c, r)
	}
	a.addAttributes(&w.texts[numText-1], r)
	w.rows += len(r.selected)
}

// appendSelected copies the selected of src, which is nil if the file lacks the
// column.
func appendSelected[T any](dst, src []T, r *Rows) []T {
	switch {
	case src == nil:
		return append(dst, make([]T, len(r.selected))...)
	case r.all:
		return append(dst, src...)
	}
	dst = slices.Grow(dst, len(r.selected))
	for _, row := range r.selected {
		dst = append(dst, src[row])
	}
	return dst
}

func (a *absorber) appendTraces(dst []byte, r *Rows) []byte {
	l := &r.columns[TraceID]
	if !l.done {
		return append(dst, make([]byte, 16*len(r.selected))...)
	}
	dst = slices.Grow(dst, 16*len(r.selected))
	for _, row := range r.selected {
		code := r.codes[TraceID][row]
		dst = append(dst, l.encoded.dict[16*code:16*code+16]...)
	}
	return dst
}

func appendIDs(dst []byte, c Column, r *Rows) []byte {
	l := &r.columns[c]
	switch {
	case !l.done:
		return append(dst, make([]byte, 8*len(r.selected))...)
	case r.all:
		return append(dst, l.body...)
	}
	dst = slices.Grow(dst, 8*len(r.selected))
	for _, row := range r.selected {
		dst = append(dst, l.body[8*row:8*row+8]...)
	}
	return dst
}

// addTexts learns the texts that selected rows have, and no others.
func (a *absorber) addTexts(t *texts, c Column, r *Rows) {
	dict, codes := r.Texts(c)
	if len(dict) <= 1 {
		only := ""
		if len(dict) == 1 {
			only = dict[0]
		}
		t.repeat(only, len(r.selected))
		return
	}
	a.codes = slices.Grow(a.codes[:0], len(dict))[:len(dict)]
	clear(a.codes)
	t.codes = slices.Grow(t.codes, len(r.selected))
	for _, row := range r.selected {
		old := codes[row]
		if a.codes[old] == 0 {
			a.codes[old] = t.learn(dict[old]) + 1
		}
		t.codes = append(t.codes, a.codes[old]-1)
	}
}

// addOrigins first numbers the different origins among the selected rows, of
// which there are few, and then learns each once.
func (a *absorber) addOrigins(w *window, r *Rows) {
	n := len(r.selected)
	a.ids = slices.Grow(a.ids[:0], n)[:n]
	clear(a.ids)
	a.firsts = append(a.firsts[:0], 0)
	for c := firstOrigin; c <= lastOrigin; c++ {
		if dict, codes := r.Texts(c); len(dict) > 1 {
			a.refine(codes, len(dict), r)
		}
	}
	learned := make([]uint32, len(a.firsts))
	for id, at := range a.firsts {
		learned[id] = w.learnRow(r, r.selected[at])
	}
	w.origins = slices.Grow(w.origins, n)
	for _, id := range a.ids {
		w.origins = append(w.origins, learned[id])
	}
}

// refine splits each number of a.ids by the code that its rows have in one more
// column. The table of pairs is only valid where it has the current round, and
// so need not be cleared.
func (a *absorber) refine(codes []uint32, entries int, r *Rows) {
	if len(a.firsts)*entries > maxPairs {
		a.refineByMap(codes, r)
		return
	}
	a.round++
	if need := len(a.firsts) * entries; need > len(a.pairs) {
		a.pairs = append(a.pairs, make([]uint64, need-len(a.pairs))...)
	}
	a.firsts = a.firsts[:0]
	for i, row := range r.selected {
		p := &a.pairs[int(a.ids[i])*entries+int(codes[row])]
		if *p>>32 != a.round {
			*p = a.round<<32 | uint64(len(a.firsts))
			a.firsts = append(a.firsts, int32(i))
		}
		a.ids[i] = uint32(*p)
	}
}

// maxPairs bounds the table of pairs, to 8 MB.
const maxPairs = 1 << 20

// refineByMap is refine for a mesh where nearly every row has another origin.
func (a *absorber) refineByMap(codes []uint32, r *Rows) {
	met := make(map[[2]uint32]uint32)
	a.firsts = a.firsts[:0]
	for i, row := range r.selected {
		key := [2]uint32{a.ids[i], codes[row]}
		id, ok := met[key]
		if !ok {
			id = uint32(len(a.firsts))
			met[key] = id
			a.firsts = append(a.firsts, int32(i))
		}
		a.ids[i] = id
	}
}

// learnRow learns the origin of one row. What is new is copied: the origins
// outlive the row group, whose dictionaries they would keep.
func (w *window) learnRow(r *Rows, row int32) uint32 {
	var o origin
	for c := firstOrigin; c <= lastOrigin; c++ {
		if dict, codes := r.Texts(c); dict != nil {
			o[c-firstOrigin] = dict[codes[row]]
		}
	}
	if id, ok := w.originID[o]; ok {
		return id
	}
	for i := range o {
		o[i] = strings.Clone(o[i])
	}
	return w.learn(o)
}

// addAttributes joins each different set of attributes once, as it is on the
// wire.
func (a *absorber) addAttributes(t *texts, r *Rows) {
	keys, values := &r.columns[AttributeKeys], &r.columns[AttributeValues]
	if !keys.done || !values.done || keys.entries == 0 {
		t.repeat("", len(r.selected))
		return
	}
	a.sets = make(map[string]uint32)
	for _, row := range r.selected {
		a.key = a.key[:0]
		for at := keys.at[row]; at < keys.at[row+1]; at++ {
			a.key = binary.LittleEndian.AppendUint32(a.key, r.codes[AttributeKeys][at])
			a.key = binary.LittleEndian.AppendUint32(a.key, r.codes[AttributeValues][at])
		}
		code, ok := a.sets[string(a.key)]
		if !ok {
			code = t.learn(joinRow(r, row))
			a.sets[string(a.key)] = code
		}
		t.codes = append(t.codes, code)
	}
}

func joinRow(r *Rows, row int32) string {
	keys, values := &r.columns[AttributeKeys], &r.columns[AttributeValues]
	m := make(map[string]string)
	for at := keys.at[row]; at < keys.at[row+1]; at++ {
		m[keys.dict[r.codes[AttributeKeys][at]]] = values.dict[r.codes[AttributeValues][at]]
	}
	return record.JoinAttributes(m)
}

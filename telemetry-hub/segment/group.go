package segment

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

// groupRows is the number of rows of a row group, and of a page: one look-up
// reads a row group in one go, so it is small. Measured best of 1k, 8k, 32k and
// 64k for reading from object storage; other engines like larger ones.
const groupRows = 8192

// groupEncoder turns rows of the window into a row group. Its buffers are used
// again.
type groupEncoder struct {
	pages  *pages
	remap  remap
	ints   [TraceID][]int64
	wide   []uint32
	codes  []int32
	bytes  []byte
	dict   []byte
	picked []string
	facts  groupFacts
}

// remap gives codes of a large dictionary new numbers in the order in which
// they are met.
type remap struct {
	met   []uint64 // by old code: round and new code
	round uint64
	order []uint32 // old codes by new code
}

// to writes the new codes of old to dst.
func (r *remap) to(dst []int32, old []uint32, entries int) []int32 {
	r.round++
	r.order = r.order[:0]
	if len(r.met) < entries {
		r.met = append(r.met, make([]uint64, entries-len(r.met))...)
	}
	dst = slices.Grow(dst[:0], len(old))[:len(old)]
	for i, o := range old {
		v := r.met[o]
		if v>>32 != r.round {
			v = r.round<<32 | uint64(len(r.order))
			r.met[o] = v
			r.order = append(r.order, o)
		}
		dst[i] = int32(uint32(v))
	}
	return dst
}

// encode writes one row group of rows of w, and returns its chunks. The facts
// of the group are in e.facts until the next call.
func (e *groupEncoder) encode(w *window, rows []uint64) (chunks [numColumns]chunkMeta) {
	f := &e.facts
	f.reset(len(rows))
	for c := range w.ints {
		e.ints[c] = gather(e.ints[c], w.ints[c], rows)
	}
	f.starts, f.durations, f.codes, f.grpc = e.ints[Start], e.ints[Duration], e.ints[Code], e.ints[GRPCStatus]
	f.bytesIn, f.bytesOut = e.ints[BytesIn], e.ints[BytesOut]
	for c := Start; c < TraceID; c++ {
		chunks[c] = e.encodeInts(c, e.ints[c])
	}
	chunks[TraceID] = e.encodeTraces(w.ids[0], rows)
	chunks[SpanID] = e.encodeIDs(w.ids[1], rows)
	chunks[ParentSpanID] = e.encodeIDs(w.ids[2], rows)
	e.encodeOrigins(w, rows, chunks[:])
	for c := firstText; c <= lastText; c++ {
		chunks[c] = e.encodeText(c, &w.texts[c-firstText], rows)
	}
	chunks[AttributeKeys], chunks[AttributeValues] = e.encodeAttributes(&w.texts[numText-1], rows)
	return chunks
}

func gather[T any](dst, src []T, rows []uint64) []T {
	dst = slices.Grow(dst[:0], len(rows))[:len(rows)]
	for i, row := range rows {
		dst[i] = src[row]
	}
	return dst
}

func (e *groupEncoder) encodeInts(c Column, v []int64) chunkMeta {
	switch specs[c].kind {
	case kindInt:
		return e.encodeSmall(v, false)
	case kindNullInt:
		return e.encodeSmall(v, true)
	case kindBool:
		return e.pages.bools(v)
	}
	return e.pages.longs(v)
}

// encodeSmall writes integers that are few different ones. Of a nullable column
// 0 is null, and the others are one above the value.
func (e *groupEncoder) encodeSmall(v []int64, nullable bool) chunkMeta {
	c := coded{codes: e.codes[:0]}
	if nullable {
		c.definition = make([]int32, len(v))
	}
	index := make(map[int64]int32)
	e.dict = e.dict[:0]
	last, code := int64(-1), int32(0)
	var low, high int64
	for i, n := range v {
		if nullable {
			if n == 0 {
				continue
			}
			c.definition[i] = 1
			n--
		}
		if n != last {
			var ok bool
			if code, ok = index[n]; !ok {
				code = int32(len(index))
				if code == 0 {
					low, high = n, n
				}
				low, high = min(low, n), max(high, n)
				index[n] = code
				e.dict = binary.LittleEndian.AppendUint32(e.dict, uint32(n))
			}
			last = n
		}
		c.codes = append(c.codes, code)
	}
	e.codes, c.entries, c.dict = c.codes, len(index), e.dict
	m := e.pages.dictionaryColumn(c)
	if len(index) > 0 {
		m.low, m.high = binary.LittleEndian.AppendUint32(nil, uint32(low)), binary.LittleEndian.AppendUint32(nil, uint32(high))
	}
	return m
}

// encodeTraces writes the trace IDs. Those of one trace stand together.
func (e *groupEncoder) encodeTraces(b []byte, rows []uint64) chunkMeta {
	e.codes, e.dict = e.codes[:0], e.dict[:0]
	traces := e.facts.traces
	low, high := 0, 0
	for _, row := range rows {
		id := [16]byte(b[row*16:])
		if n := len(traces); n == 0 || traces[n-1] != id {
			traces = append(traces, id)
			e.dict = append(e.dict, id[:]...)
			if bytes.Compare(id[:], traces[low][:]) < 0 {
				low = n
			}
			if bytes.Compare(id[:], traces[high][:]) > 0 {
				high = n
			}
		}
		e.codes = append(e.codes, int32(len(traces)-1))
	}
	e.facts.traces = traces
	m := e.pages.dictionaryColumn(coded{entries: len(traces), dict: e.dict, codes: e.codes})
	m.low, m.high = slices.Clone(traces[low][:]), slices.Clone(traces[high][:])
	return m
}

func (e *groupEncoder) encodeIDs(b []byte, rows []uint64) chunkMeta {
	e.bytes = e.bytes[:0]
	for _, row := range rows {
		e.bytes = append(e.bytes, b[row*8:row*8+8]...)
	}
	return e.pages.plain(len(rows), e.bytes)
}

// encodeOrigins writes the columns of an origin: first each row's origin gets a
// number within the group, then each column looks at the few there are.
func (e *groupEncoder) encodeOrigins(w *window, rows []uint64, chunks []chunkMeta) {
	f := &e.facts
	e.wide = gather(e.wide, w.origins, rows)
	f.origins = e.remap.to(f.origins, e.wide, len(w.known))
	for _, id := range e.remap.order {
		f.tuples = append(f.tuples, &w.known[id])
	}
	codeOf := make([]int32, len(f.tuples)) // by origin
	index := make(map[string]int32)
	for c := firstOrigin; c <= lastOrigin; c++ {
		clear(index)
		e.picked = e.picked[:0]
		for i, t := range f.tuples {
			s := t.at(c)
			code, ok := index[s]
			if !ok {
				code = int32(len(index))
				index[s] = code
				e.picked = append(e.picked, s)
			}
			codeOf[i] = code
		}
		e.codes = slices.Grow(e.codes[:0], len(rows))[:len(rows)]
		if len(e.picked) == 1 {
			clear(e.codes)
		} else {
			for i, o := range f.origins {
				e.codes[i] = codeOf[o]
			}
		}
		chunks[c] = e.encodePicked(c)
	}
}

func (e *groupEncoder) encodeText(c Column, t *texts, rows []uint64) chunkMeta {
	e.picked = e.picked[:0]
	if len(t.dict) == 1 {
		e.codes = slices.Grow(e.codes[:0], len(rows))[:len(rows)]
		clear(e.codes)
		e.picked = append(e.picked, validText(t.dict[0]))
	} else {
		e.wide = gather(e.wide, t.codes, rows)
		e.codes = e.remap.to(e.codes, e.wide, len(t.dict))
		for _, old := range e.remap.order {
			e.picked = append(e.picked, validText(t.dict[old]))
		}
	}
	f := &e.facts
	switch c {
	case RequestID:
		f.requestIDs = append(f.requestIDs, e.picked...)
	case Protocol:
		f.protocols, f.protocol = append(f.protocols, e.picked...), append(f.protocol, e.codes...)
	case Verdict:
		f.verdicts, f.verdict = append(f.verdicts, e.picked...), append(f.verdict, e.codes...)
	}
	return e.encodePicked(c)
}

// maxStatistic is the longest text that stands in the footer as least or
// greatest.
const maxStatistic = 64

// encodePicked writes e.codes with the dictionary e.picked.
func (e *groupEncoder) encodePicked(c Column) chunkMeta {
	e.dict = e.dict[:0]
	for _, s := range e.picked {
		e.dict = appendText(e.dict, s)
	}
	m := e.pages.dictionaryColumn(coded{
		entries: len(e.picked), dict: e.dict, codes: e.codes,
		// Also where there is nothing to shrink: parquet-go takes the codec of
		// a column from the first row group.
		compressed: true,
	})
	// Only where they let an engine pass over row groups: each costs a footer
	// entry a row group.
	if c == DestinationService || c == DestinationHost {
		low, high := slices.Min(e.picked), slices.Max(e.picked)
		if len(low) <= maxStatistic && len(high) <= maxStatistic {
			m.low, m.high = []byte(low), []byte(high)
		}
	}
	return m
}

func appendText(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// pair is an attribute as places in the dictionaries of keys and values.
type pair struct{ key, value int32 }

// maxAttributes of one record are kept, the first by name: a set that all
// records of a group share is written once for each of them.
const maxAttributes = 128

// encodeAttributes writes both leaves of the map column. Each different set of
// attributes is taken apart once.
func (e *groupEncoder) encodeAttributes(t *texts, rows []uint64) (keys, values chunkMeta) {
	e.wide = gather(e.wide, t.codes, rows)
	e.codes = e.remap.to(e.codes, e.wide, len(t.dict))
	var keyDict, valueDict dictionary
	sets := make([][]pair, len(e.remap.order))
	for i, old := range e.remap.order {
		m := make(map[string]string)
		for k, v := range record.SplitAttributes(t.dict[old]) {
			m[validText(k)] = validText(v)
		}
		names := slices.Sorted(maps.Keys(m))
		for _, k := range names[:min(len(names), maxAttributes)] {
			sets[i] = append(sets[i], pair{keyDict.add(k), valueDict.add(m[k])})
		}
	}
	var k, v coded
	k.repetition, k.definition = make([]int32, 0, len(rows)), make([]int32, 0, len(rows))
	for _, code := range e.codes {
		if len(sets[code]) == 0 {
			k.repetition, k.definition = append(k.repetition, 0), append(k.definition, 0)
		}
		for i, p := range sets[code] {
			k.repetition, k.definition = append(k.repetition, int32(min(i, 1))), append(k.definition, 1)
			k.codes, v.codes = append(k.codes, p.key), append(v.codes, p.value)
		}
	}
	v.repetition, v.definition = k.repetition, k.definition
	keyDict.into(&k)
	valueDict.into(&v)
	return e.pages.dictionaryColumn(k), e.pages.dictionaryColumn(v)
}

// dictionary grows a text at a time. The zero value is ready.
type dictionary struct {
	index map[string]int32
	plain []byte
}

func (d *dictionary) add(s string) int32 {
	code, ok := d.index[s]
	if !ok {
		if d.index == nil {
			d.index = make(map[string]int32)
		}
		code = int32(len(d.index))
		d.index[s] = code
		d.plain = appendText(d.plain, s)
	}
	return code
}

func (d *dictionary) into(c *coded) {
	c.entries, c.dict, c.compressed = len(d.index), d.plain, true
}

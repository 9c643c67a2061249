package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// window buffers the rows of a sealing window, column by column, in the order
// in which they came.
type window struct {
	rows    int
	ints    [TraceID][]int64 // by column; those before TraceID are all integers
	ids     [3][]byte        // trace, span, parent
	origins []uint32
	texts   [numText]texts

	// known are the origins of the whole segment: senders come back, and the
	// edges of a mesh are few beside its requests.
	known    []origin
	originID map[origin]uint32

	// ranks are the places of the known origins when they are ordered, so that
	// the records of every request stand in the same order of hops.
	ranks []uint32

	batch   []uint32 // scratch: what the codes of a batch become here
	keys    []uint64 // scratch of sorting
	swapped []uint64
	spans   []traceSpan
}

func newWindow() *window { return &window{originID: make(map[origin]uint32)} }

// texts is a dictionary column of the window.
type texts struct {
	dict  []string
	index map[string]uint32
	codes []uint32
	bytes int // of the dictionary
}

// textWire are the columns of the record codec that texts are of.
var textWire = func() (wire [numText]int) {
	for c := firstText; c <= lastText; c++ {
		wire[c-firstText] = specs[c].wire
	}
	wire[numText-1] = vocab.ColAttributes
	return wire
}()

// add takes the rows of a batch.
func (w *window) add(c *record.Columns, edges []*telemetryv1.Edge, sender string) {
	n := c.Rows()
	for column := range w.ints {
		w.ints[column] = appendInts(w.ints[column], Column(column), c.Ints(specs[column].wire), n)
	}
	for i, id := range [...]struct{ wire, width int }{{vocab.ColTraceID, 16}, {vocab.ColSpanID, 8}, {vocab.ColParentSpanID, 8}} {
		if b := c.Fixed(id.wire, id.width); b != nil {
			w.ids[i] = append(w.ids[i], b...)
		} else {
			w.ids[i] = append(w.ids[i], make([]byte, n*id.width)...)
		}
	}
	w.addOrigins(c.Ints(vocab.ColEdge), n, edges, sender)
	for i := range w.texts {
		dict, codes := c.Texts(textWire[i])
		w.batch = w.texts[i].add(dict, codes, n, w.batch)
	}
	w.rows += n
}

// appendInts converts a column of the wire. Open tables are signed, so numbers
// that would not fit are cut at the greatest that does.
func appendInts(dst []int64, c Column, src []uint64, n int) []int64 {
	dst = slices.Grow(dst, n)
	if src == nil {
		return append(dst, make([]int64, n)...)
	}
	limit := uint64(math.MaxInt64)
	switch specs[c].kind {
	case kindTime: // signed on the wire already
		for _, v := range src {
			dst = append(dst, int64(v))
		}
		return dst
	case kindInt, kindNullInt:
		limit = math.MaxInt32
	case kindBool:
		limit = 1
	}
	for _, v := range src {
		dst = append(dst, int64(min(v, limit)))
	}
	return dst
}

func (w *window) addOrigins(src []uint64, n int, edges []*telemetryv1.Edge, sender string) {
	w.batch = w.batch[:0]
	for _, e := range edges {
		w.batch = append(w.batch, w.learn(originOf(sender, e)))
	}
	unknown := -1 // the ingest refuses a row without an edge; here it loses its edge only
	for i := range n {
		edge := uint64(0)
		if src != nil {
			edge = src[i]
		}
		if edge < uint64(len(w.batch)) {
			w.origins = append(w.origins, w.batch[edge])
			continue
		}
		if unknown < 0 {
			unknown = int(w.learn(originOf(sender, nil)))
		}
		w.origins = append(w.origins, uint32(unknown))
	}
}

func (w *window) learn(o origin) uint32 {
	for i := range o {
		o[i] = validText(o[i])
	}
	id, ok := w.originID[o]
	if !ok {
		id = uint32(len(w.known))
		w.known = append(w.known, o)
		w.originID[o] = id
	}
	return id
}

// validText is s as a text column can hold it. Readers of Parquet refuse a file
// whose texts are not UTF-8, and paths and headers need not be.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// add remaps the codes of a batch to the window's own; scratch is used and
// handed back.
func (t *texts) add(dict []string, codes []uint32, n int, scratch []uint32) []uint32 {
	if dict == nil {
		t.repeat("", n)
		return scratch
	}
	scratch = scratch[:0]
	for _, s := range dict {
		scratch = append(scratch, t.learn(s))
	}
	t.codes = slices.Grow(t.codes, n)
	for _, c := range codes {
		t.codes = append(t.codes, scratch[c])
	}
	return scratch
}

// repeat adds n rows with the same text.
func (t *texts) repeat(s string, n int) {
	code := t.learn(s)
	t.codes = slices.Grow(t.codes, n)
	for range n {
		t.codes = append(t.codes, code)
	}
}

func (t *texts) learn(s string) uint32 {
	if len(t.dict) > 0 && t.dict[0] == s { // most columns have one text or are mostly empty
		return 0
	}
	if code, ok := t.index[s]; ok {
		return code
	}
	if t.index == nil {
		t.index = make(map[string]uint32)
	}
	code := uint32(len(t.dict))
	t.index[s] = code
	t.dict = append(t.dict, s)
	t.bytes += len(s) + 48 // of the map and the header, about
	return code
}

// dictBytes is about how much memory the dictionaries take.
func (w *window) dictBytes() (n int) {
	for i := range w.texts {
		n += w.texts[i].bytes
	}
	return n
}

// reset empties the window; the origins stay.
func (w *window) reset() {
	w.rows = 0
	for i := range w.ints {
		w.ints[i] = w.ints[i][:0]
	}
	for i := range w.ids {
		w.ids[i] = w.ids[i][:0]
	}
	w.origins = w.origins[:0]
	for i := range w.texts {
		t := &w.texts[i]
		clear(t.index)
		clear(t.dict)
		t.dict, t.codes, t.bytes = t.dict[:0], t.codes[:0], 0
	}
}

// Rows are first sorted by the first 40 bits of the trace ID, in digits of ten
// bits, with the row in the bits below; what is equal in them is compared in
// full.
const (
	rowBits   = 24
	digitBits = 10
	keyDigits = 4
	rowMask   = 1<<rowBits - 1
)

// sorted returns the window's rows, those of a trace together and the traces by
// their first start. Whole requests then stand together, however long the
// sidecars that saw them took to report, and a row group is a stretch of time.
// The rows of a trace are ordered by where they come from: they look alike, one
// trace as the next, which compresses. The slice is good until the next call.
func (w *window) sorted() []uint64 {
	traces := w.ids[0]
	w.keys, w.swapped = slices.Grow(w.keys[:0], w.rows), slices.Grow(w.swapped[:0], w.rows)[:w.rows]
	for row := range w.rows {
		w.keys = append(w.keys, binary.BigEndian.Uint64(traces[row*16:])>>rowBits<<rowBits|uint64(row))
	}
	for digit := range keyDigits {
		radixPass(w.swapped, w.keys, rowBits+digit*digitBits)
		w.keys, w.swapped = w.swapped, w.keys
	}
	w.sortTies()
	w.findSpans()
	ordered := w.swapped[:0]
	for _, s := range w.spans {
		for _, key := range w.keys[s.from:s.to] {
			ordered = append(ordered, key&rowMask)
		}
	}
	w.keys, w.swapped = ordered, w.keys
	return w.keys
}

// traceSpan are the rows of one trace in keys.
type traceSpan struct {
	start    int64 // the first of them
	from, to int32
}

// findSpans lists the traces by their first start.
func (w *window) findSpans() {
	traces, starts := w.ids[0], w.ints[Start]
	w.spans = w.spans[:0]
	var last []byte
	for i, key := range w.keys {
		row := int(key & rowMask)
		if id := traces[row*16 : row*16+16]; last == nil || !bytes.Equal(id, last) {
			w.spans = append(w.spans, traceSpan{starts[row], int32(i), int32(i)})
			last = id
		}
		s := &w.spans[len(w.spans)-1]
		s.start, s.to = min(s.start, starts[row]), int32(i)+1
	}
	slices.SortFunc(w.spans, func(a, b traceSpan) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.from, b.from)) })
}

// radixPass is one stable pass of a least-significant-digit radix sort.
func radixPass(dst, src []uint64, shift int) {
	var starts [1 << digitBits]int
	for _, k := range src {
		starts[k>>shift&(1<<digitBits-1)]++
	}
	at := 0
	for i, n := range starts {
		starts[i] = at
		at += n
	}
	for _, k := range src {
		digit := k >> shift & (1<<digitBits - 1)
		dst[starts[digit]] = k
		starts[digit]++
	}
}

// sortTies puts rows in order whose trace IDs begin alike. Those of one trace
// are the usual case; 64-bit trace IDs that were widened with zeros are the one
// in which the run is the whole window.
func (w *window) sortTies() {
	w.rank()
	traces := w.ids[0]
	compare := func(a, b uint64) int {
		x, y := int(a&rowMask), int(b&rowMask)
		if d := bytes.Compare(traces[x*16:x*16+16], traces[y*16:y*16+16]); d != 0 {
			return d
		}
		return cmp.Or(cmp.Compare(w.ranks[w.origins[x]], w.ranks[w.origins[y]]), cmp.Compare(x, y))
	}
	for from := 0; from < len(w.keys); {
		to := from + 1
		for to < len(w.keys) && w.keys[to]>>rowBits == w.keys[from]>>rowBits {
			to++
		}
		slices.SortFunc(w.keys[from:to], compare)
		from = to
	}
}

// rankOrder are the columns of an origin in the order in which hops are told
// apart: replicas last.
var rankOrder = [...]Column{SourceWorkload, DestinationWorkload, DestinationHost, Reporter, SourceNamespace, DestinationNamespace}

// rank orders the known origins anew if there are new ones.
func (w *window) rank() {
	if len(w.ranks) == len(w.known) {
		return
	}
	order := make([]uint32, len(w.known))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		x, y := &w.known[a], &w.known[b]
		for _, c := range rankOrder {
			if d := strings.Compare(x.at(c), y.at(c)); d != 0 {
				return d
			}
		}
		return cmp.Compare(a, b)
	})
	w.ranks = slices.Grow(w.ranks[:0], len(order))[:len(order)]
	at := uint32(0)
	for place, id := range order {
		if place > 0 && !sameHop(&w.known[id], &w.known[order[place-1]]) {
			at++
		}
		w.ranks[id] = at
	}
}

func sameHop(a, b *origin) bool {
	for _, c := range rankOrder {
		if a.at(c) != b.at(c) {
			return false
		}
	}
	return true
}

package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/telemesh/telemesh/internal/ids"
)

const (
	// maxTraces bounds how many traces one foreign request ID pulls in.
	maxTraces = 100
	// keptGroups of one look-up stay in memory, should its second step need them
	// again.
	keptGroups = 8
)

// Find returns the records of the trace or request ID, at most limit, in no
// order. An ID that can be both is looked up as both. A foreign request ID may
// be on the first hop only, so the traces that have it are taken whole (up to
// 100 of them).
//
// Every row group that may hold a record is read once and in one range read (a
// request ID that more than 8 groups hold may have some of them read twice).
// What is damaged is passed over and told: the error is then not nil, wraps
// ErrCorrupt, and what was found is good.
func (s *Segment) Find(ctx context.Context, id string, limit int) ([]Found, error) {
	id = validText(id)
	if id == "" {
		return nil, nil
	}
	l := lookup{Segment: s, limit: limit}
	first := wanted{requestID: id}
	keys := []uint64{s.hash.request(id)}
	if trace, ok := ids.ParseTraceID(id); ok {
		first.traces = map[[16]byte]bool{trace: true}
		keys = append(keys, s.hash.trace(trace))
	}
	l.run(ctx, keys, first)
	// The other traces of what was found, without the records found already.
	rest := wanted{not: id, traces: make(map[[16]byte]bool)}
	keys = keys[:0]
	for _, f := range l.found {
		trace := f.Record.TraceID
		if trace != ([16]byte{}) && !first.traces[trace] && !rest.traces[trace] && len(rest.traces) < maxTraces {
			rest.traces[trace] = true
			keys = append(keys, s.hash.trace(trace))
		}
	}
	l.run(ctx, keys, rest)
	return l.found, errors.Join(l.errs...)
}

// FindTraces returns the records of the traces, at most limit, as Find does. A
// store of many segments needs it for the second step of a look-up: the traces
// that a request ID was found in may go on in another segment.
func (s *Segment) FindTraces(ctx context.Context, traces []ids.TraceID, limit int) ([]Found, error) {
	l := lookup{Segment: s, limit: limit}
	w := wanted{traces: make(map[[16]byte]bool)}
	var keys []uint64
	for _, t := range traces {
		if !t.IsZero() {
			w.traces[t] = true
			keys = append(keys, s.hash.trace(t))
		}
	}
	l.run(ctx, keys, w)
	return l.found, errors.Join(l.errs...)
}

// wanted says which records a step of a look-up takes.
type wanted struct {
	traces    map[[16]byte]bool
	requestID string // also these, if not empty
	not       string // but none with this request ID, if not empty
}

// lookup is one call of Find.
type lookup struct {
	*Segment
	limit int
	found []Found
	kept  map[int]*groupData
	errs  []error
}

// run takes the records of w from the groups that the keys lead to.
func (l *lookup) run(ctx context.Context, keys []uint64, w wanted) {
	if len(keys) == 0 {
		return
	}
	for _, number := range l.candidates(keys) {
		if len(l.found) >= l.limit || ctx.Err() != nil {
			break
		}
		if err := l.take(ctx, number, w); err != nil {
			l.errs = append(l.errs, err)
		}
	}
	if err := ctx.Err(); err != nil {
		l.errs = append(l.errs, err)
	}
}

// candidates are the row groups that may hold what the keys stand for. Where
// the hashes are damaged that is all of them.
func (l *lookup) candidates(keys []uint64) []int {
	var list []int
	for _, key := range keys {
		hits, err := l.hits(key)
		if err != nil {
			l.errs = append(l.errs, fmt.Errorf("segment %s: %w", l.name, err))
			list = list[:0]
			for i := range l.header.groups {
				list = append(list, i)
			}
			return list
		}
		list = append(list, hits...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// blocks is how many blocks of hashes there are.
func (s *Segment) blocks() int {
	return int((s.header.part(partHashes).length + blockBytes - 1) / blockBytes)
}

// hits are the row groups whose entries have the hash. One block is read, more
// only for a hash that more than one holds.
func (s *Segment) hits(key uint64) ([]int, error) {
	n := s.blocks()
	if len(s.fences) != n {
		return nil, fmt.Errorf("%w: index: fences", ErrCorrupt)
	}
	block, _ := slices.BinarySearch(s.fences, key)
	var list []int
	for block = max(block-1, 0); block < n && s.fences[block] <= key|groupMask; block++ {
		entries, err := s.block(block)
		if err != nil {
			return nil, err
		}
		at, _ := slices.BinarySearch(entries, key)
		for ; at < len(entries) && entries[at]&^groupMask == key; at++ {
			if g := int(entries[at] & groupMask); g < s.header.groups {
				list = append(list, g)
			}
		}
	}
	return list, nil
}

// block reads one block of hashes.
func (s *Segment) block(i int) ([]uint64, error) {
	p := s.header.part(partHashes)
	from := int64(i) * blockBytes
	b := make([]byte, min(blockBytes, p.length-from))
	if err := s.readIndex(b, p.offset+from); err != nil {
		return nil, err
	}
	if len(b) < blockHeader || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) ||
		int64(binary.LittleEndian.Uint32(b[4:]))*8+blockHeader != int64(len(b)) {
		return nil, fmt.Errorf("%w: index: block %d of the hashes", ErrCorrupt, i)
	}
	entries := make([]uint64, (len(b)-blockHeader)/8)
	for j := range entries {
		entries[j] = binary.LittleEndian.Uint64(b[blockHeader+8*j:])
	}
	return entries, nil
}

// take appends the records of one row group.
func (l *lookup) take(ctx context.Context, number int, w wanted) error {
	d := l.kept[number]
	if d == nil {
		var err error
		if d, err = l.groupData(number); err != nil {
			return err
		}
		if err := d.readAll(ctx); err != nil {
			return err
		}
		if l.kept == nil {
			l.kept = make(map[int]*groupData)
		}
		if len(l.kept) < keptGroups {
			l.kept[number] = d
		}
	}
	rows, err := d.matching(w)
	if len(rows) > 0 {
		rows = rows[:min(len(rows), l.limit-len(l.found))]
		var found []Found
		var more error
		found, more = d.records(rows)
		l.found = append(l.found, found...)
		err = errors.Join(err, more)
	}
	return err
}

// matching are the rows that w wants. Where one of the two columns is damaged
// the other still counts.
func (d *groupData) matching(w wanted) ([]int32, error) {
	var errs []error
	in := make([]bool, d.rows)
	if len(w.traces) > 0 {
		errs = append(errs, d.markTraces(in, w.traces))
	}
	if w.requestID != "" {
		errs = append(errs, d.markTexts(RequestID, in, w.requestID, true))
	}
	if w.not != "" {
		errs = append(errs, d.markTexts(RequestID, in, w.not, false))
	}
	var rows []int32
	for i, ok := range in {
		if ok {
			rows = append(rows, int32(i))
		}
	}
	return rows, errors.Join(errs...)
}

func (d *groupData) markTraces(in []bool, traces map[[16]byte]bool) error {
	e, present, err := d.column(TraceID)
	if !present {
		return err
	}
	hit := make([]bool, e.entries)
	any := false
	for i := range hit {
		hit[i] = traces[[16]byte(e.dict[16*i:])]
		any = any || hit[i]
	}
	if !any {
		return nil // a hash that two IDs share
	}
	codes, ok := e.codes(nil, e.rows)
	if !ok {
		return d.corrupt(TraceID)
	}
	for i, c := range codes {
		in[i] = in[i] || hit[c]
	}
	return nil
}

// markTexts sets in to mark where a row has the text.
func (d *groupData) markTexts(c Column, in []bool, text string, mark bool) error {
	e, present, err := d.column(c)
	if !present {
		return err
	}
	dict, ok := e.texts()
	if !ok {
		return d.corrupt(c)
	}
	if !slices.Contains(dict, text) {
		return nil
	}
	codes, ok := e.codes(nil, e.rows)
	if !ok {
		return d.corrupt(c)
	}
	for i, code := range codes {
		if dict[code] == text {
			in[i] = mark
		}
	}
	return nil
}

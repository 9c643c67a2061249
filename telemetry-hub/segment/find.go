package segment

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
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
// 100 of them). Where there are more than limit, those with the ID itself come
// before those of its other traces, and the newest by start before older ones.
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
	defer l.release()
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
	defer l.release()
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
	done  int // of found, by the steps before
	kept  map[int]*groupData
	errs  []error
}

func (l *lookup) release() {
	for _, d := range l.kept {
		d.release()
	}
}

// run takes the records of w from the groups that the keys lead to, those with
// the newest first: what the limit cuts off is older than what it leaves.
func (l *lookup) run(ctx context.Context, keys []uint64, w wanted) {
	if len(keys) == 0 {
		return
	}
	l.done = len(l.found)
	candidates := l.candidates(keys)
	newest := func(number int) int64 {
		if g, err := l.group(number); err == nil {
			return g.stats.maxStart
		}
		return math.MaxInt64 // to be told
	}
	if len(candidates) > 1 {
		slices.SortStableFunc(candidates, func(a, b int) int { return cmp.Compare(newest(b), newest(a)) })
	}
	for _, number := range candidates {
		if ctx.Err() != nil || l.limit <= l.done || len(l.found) == l.limit && newest(number) <= l.oldest() {
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

// oldest start of what this step has found.
func (l *lookup) oldest() int64 {
	oldest := int64(math.MaxInt64)
	for i := range l.found[l.done:] {
		oldest = min(oldest, l.found[l.done+i].Record.Start.UnixNano())
	}
	return oldest
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

// take adds the records of one row group, and cuts off what is older than the
// limit leaves.
func (l *lookup) take(ctx context.Context, number int, w wanted) error {
	d, err := l.read(ctx, number)
	if err != nil {
		return err
	}
	if l.kept[number] == nil {
		defer d.release()
	}
	rows, err := d.matching(w)
	if rows, err = d.newest(rows, l.limit-l.done, err); len(rows) == 0 {
		return err
	}
	found, more := d.records(rows)
	l.found = append(l.found, found...)
	if len(l.found) > l.limit {
		slices.SortStableFunc(l.found[l.done:], func(a, b Found) int { return b.Record.Start.Compare(a.Record.Start) })
		l.found = l.found[:l.limit]
	}
	return errors.Join(err, more)
}

// read reads a row group, or has it still.
func (l *lookup) read(ctx context.Context, number int) (*groupData, error) {
	if d := l.kept[number]; d != nil {
		return d, nil
	}
	d, err := l.groupData(number)
	if err != nil {
		return nil, err
	}
	if err := d.readAll(ctx); err != nil {
		d.release()
		return nil, err
	}
	if l.kept == nil {
		l.kept = make(map[int]*groupData)
	}
	if len(l.kept) < keptGroups {
		l.kept[number] = d
	}
	return d, nil
}

// newest cuts rows, which rise, to those n that started last. Without their
// starts any will do, and the damage is added to err.
func (d *groupData) newest(rows []int32, n int, err error) ([]int32, error) {
	if len(rows) <= n {
		return rows, err
	}
	e, present, damage := d.column(Start)
	if !present {
		return rows[:n], errors.Join(err, damage)
	}
	starts, ok := e.pickInts(d.mem, rows)
	if !ok {
		return rows[:n], errors.Join(err, d.corrupt(Start))
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(starts[b], starts[a]) })
	kept := make([]int32, n)
	for i := range kept {
		kept[i] = rows[order[i]]
	}
	slices.Sort(kept)
	return kept, err
}

// matching are the rows that w wants, which rise. Where one of the two columns
// is damaged the other still counts.
func (d *groupData) matching(w wanted) ([]int32, error) {
	var errs []error
	rows, err := d.rowsOfTraces(w.traces)
	errs = append(errs, err)
	if w.requestID != "" {
		more, err := d.rowsOfRequest(w.requestID)
		errs = append(errs, err)
		if len(more) > 0 {
			rows = append(rows, more...)
			slices.Sort(rows)
			rows = slices.Compact(rows)
		}
	}
	if w.not != "" && len(rows) > 0 {
		not, err := d.rowsOfRequest(w.not)
		errs = append(errs, err)
		rows = slices.DeleteFunc(rows, func(row int32) bool {
			_, found := slices.BinarySearch(not, row)
			return found
		})
	}
	return rows, errors.Join(errs...)
}

func (d *groupData) rowsOfTraces(traces map[[16]byte]bool) ([]int32, error) {
	if len(traces) == 0 {
		return nil, nil
	}
	e, present, err := d.column(TraceID)
	if !present {
		return nil, err
	}
	hit, any := d.hitTraces(&e, traces)
	if !any {
		return nil, nil // a hash that two IDs share
	}
	rows, ok := e.selectRows(nil, hit)
	if !ok {
		return nil, d.corrupt(TraceID)
	}
	return rows, nil
}

// hitTraces tells which entries of the dictionary are among the traces.
func (d *groupData) hitTraces(e *encoded, traces map[[16]byte]bool) (hit []bool, any bool) {
	hit = d.mem.hits(e.entries)
	if len(traces) > 1 {
		for i := range hit {
			hit[i] = traces[[16]byte(e.dict[16*i:])]
			any = any || hit[i]
		}
		return hit, any
	}
	for trace := range traces { // mostly it is one, and a comparison costs less than a hash
		for i := range hit {
			hit[i] = trace == [16]byte(e.dict[16*i:])
			any = any || hit[i]
		}
	}
	return hit, any
}

func (d *groupData) rowsOfRequest(id string) ([]int32, error) {
	e, present, err := d.column(RequestID)
	if !present {
		return nil, err
	}
	code, found, ok := e.find(id)
	if !ok {
		return nil, d.corrupt(RequestID)
	}
	if !found {
		return nil, nil
	}
	hit := d.mem.hits(e.entries)
	hit[code] = true
	rows, ok := e.selectRows(nil, hit)
	if !ok {
		return nil, d.corrupt(RequestID)
	}
	return rows, nil
}

package segment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Query says which records a scan yields, and what of them. Conditions are
// joined by and; the zero value takes all records.
type Query struct {
	From, To            time.Time // From <= start < To; a zero time is no bound
	Source, Destination string    // canonical services
	MinCode             uint32
	Failed              bool // no response, a server error, or a gRPC status other than OK
	MinDuration         time.Duration
	// FailedOrSlow takes what failed, as Failed does, and what took at least so
	// long; 0 is no condition.
	FailedOrSlow time.Duration
	Protocol     string
	PathPrefix   string

	// Columns are those that are asked for of what is yielded; what only
	// conditions need is read anyway, and nothing else.
	Columns []Column
	// Backwards yields the row groups written last first.
	Backwards bool
}

// Rows are the matching records of one row group. They and what they hand out
// are good until the function that they were yielded to returns.
type Rows struct {
	data     *groupData
	selected []int32 // of every or of narrowed
	every    []int32 // 0, 1, 2 …, never changed
	narrowed []int32
	all      bool // that are selected
	ints     [numColumns][]int64
	codes    [numColumns][]uint32
	columns  [numColumns]loaded
}

// loaded is a column as far as it has been decoded for the current group.
type loaded struct {
	encoded
	done bool
	dict []string
	list []string // of a map, nil until asked for
	at   []int32
}

// Selected are the rows that match, as places in the slices of the other
// methods.
func (r *Rows) Selected() []int32 { return r.selected }

// Ints is a column of numbers, an entry for each row of the group; those of rows
// that are not selected mean nothing. A status is one above the column's, and 0
// where that is null; a bit is 0 or 1. It is nil
// for a column that is not a number, was not asked for or is not in the file.
func (r *Rows) Ints(c Column) []int64 {
	if l := &r.columns[c]; !l.done || l.kind > kindBool {
		return nil
	}
	return r.ints[c]
}

// Texts is a column of texts: its dictionary, and a place in it for each selected
// row; those of other rows mean nothing. It is nil for a column that is not text, was not asked for or is
// not in the file.
func (r *Rows) Texts(c Column) (dict []string, codes []uint32) {
	if l := &r.columns[c]; !l.done || l.kind != kindText {
		return nil, nil
	}
	return r.columns[c].dict, r.codes[c]
}

// TraceID of a row; zero if the column was not asked for.
func (r *Rows) TraceID(row int32) (id [16]byte) {
	if l := &r.columns[TraceID]; l.done {
		id = [16]byte(l.encoded.dict[16*r.codes[TraceID][row]:])
	}
	return id
}

// SpanID of a row; c is SpanID or ParentSpanID. It is zero if the column was
// not asked for.
func (r *Rows) SpanID(c Column, row int32) (id [8]byte) {
	if l := &r.columns[c]; l.done && l.kind == kindID {
		id = [8]byte(l.body[8*row:])
	}
	return id
}

func allColumns() []Column {
	all := make([]Column, numColumns)
	for c := range all {
		all[c] = Column(c)
	}
	return all
}

// Scan yields the matching records of one row group after another, until yield
// returns false. Row groups that cannot hold a match are not read. What is
// damaged is passed over and told: the error then wraps ErrCorrupt, and what was
// yielded is good.
func (s *Segment) Scan(ctx context.Context, q Query, yield func(*Rows) bool) error {
	var c scan
	c.use(s, q)
	var errs []error
	for i := range s.header.groups {
		if q.Backwards {
			i = s.header.groups - 1 - i
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		more, err := c.group(ctx, i, yield)
		if err != nil {
			errs = append(errs, err)
		}
		if !more {
			break
		}
	}
	return errors.Join(errs...)
}

// scan is one call of Scan.
type scan struct {
	*Segment
	Query
	from, to int64
	rows     Rows
}

// use begins with a segment. What was read of another before is void.
func (s *scan) use(of *Segment, q Query) {
	s.Segment, s.Query, s.from, s.to = of, q, math.MinInt64, math.MaxInt64
	if !q.From.IsZero() {
		s.from = q.From.UnixNano()
	}
	if !q.To.IsZero() {
		s.to = q.To.UnixNano()
	}
}

// group scans one row group; false ends the scan.
func (s *scan) group(ctx context.Context, number int, yield func(*Rows) bool) (bool, error) {
	d, err := s.groupData(number)
	if err != nil {
		return true, err
	}
	defer d.release()
	if s.prunable(number, &d.stats) {
		return true, nil
	}
	r := &s.rows
	r.reset(d)
	if err := d.read(ctx, s.conditions(d)); err != nil {
		return true, err
	}
	if err := s.filter(r); err != nil || len(r.selected) == 0 {
		return true, err
	}
	if err := d.read(ctx, s.Columns); err != nil {
		return true, err
	}
	for _, c := range s.Columns {
		if err := r.load(c); err != nil {
			return true, err
		}
	}
	return yield(r), nil
}

// prunable reports that no record of the group can match.
func (s *scan) prunable(number int, g *groupStats) bool {
	if g.maxStart < s.from || g.minStart >= s.to || g.maxDuration < int64(s.MinDuration) ||
		g.maxCode < int64(s.MinCode) || s.Failed && !g.anyFailed ||
		s.FailedOrSlow > 0 && !g.anyFailed && g.maxDuration < int64(s.FailedOrSlow) {
		return true
	}
	if s.services == nil {
		return false
	}
	sets := &s.services.groups[number]
	has := func(set int, name string) bool {
		place, ok := s.services.index[name]
		return ok && hasBit(sets[set], place)
	}
	return s.Source != "" && !has(setSource, s.Source) ||
		s.Destination != "" && (!has(setDestination, s.Destination) || s.Failed && !has(setFailed, s.Destination))
}

// open decompresses a column and reads its dictionary.
func (r *Rows) open(c Column) error {
	l := &r.columns[c]
	if l.kind != 0 || r.data.segment.leaf[c] < 0 {
		return nil
	}
	var err error
	if l.encoded, _, err = r.data.column(c); err != nil {
		return err
	}
	if l.kind == kindText {
		var ok bool
		if l.dict, ok = l.texts(); !ok {
			return r.data.corrupt(c)
		}
	}
	return nil
}

// load decodes a column, if that is not done yet.
func (r *Rows) load(c Column) error {
	if c >= numColumns {
		return fmt.Errorf("scan segment: no column %d", c)
	}
	l := &r.columns[c]
	if l.done || r.data.segment.leaf[c] < 0 {
		return nil
	}
	if err := r.open(c); err != nil {
		return err
	}
	ok := true
	switch l.kind {
	case kindID:
	case kindUUID, kindText:
		ok = r.loadCodes(c)
	case kindMapKey, kindMapValue:
		r.codes[c], l.at, ok = l.lists(r.codes[c], l.at, r.data.mem)
		if ok {
			l.dict, ok = l.texts()
		}
	default:
		ok = r.loadInts(c)
	}
	if !ok {
		return r.data.corrupt(c)
	}
	l.done = true
	return nil
}

// fewOf a group's rows are picked out of it without decoding the rest.
const fewOf = 16

// loadCodes decodes a column's codes, or those of the selected rows alone where
// they are few: the others then mean nothing.
func (r *Rows) loadCodes(c Column) (ok bool) {
	l := &r.columns[c]
	if len(r.selected) > l.rows/fewOf {
		r.codes[c], ok = l.encoded.codes(r.codes[c], l.rows)
		return ok
	}
	m := r.data.mem
	if m.codes, ok = l.pick(m.codes, r.selected); !ok {
		return false
	}
	r.codes[c] = slices.Grow(r.codes[c][:0], l.rows)[:l.rows]
	for i, row := range r.selected {
		r.codes[c][row] = m.codes[i]
	}
	return true
}

// loadInts is loadCodes for a column of numbers.
func (r *Rows) loadInts(c Column) (ok bool) {
	l, m := &r.columns[c], r.data.mem
	if len(r.selected) > l.rows/fewOf {
		r.ints[c], ok = l.ints(r.ints[c], m)
		return ok
	}
	picked, ok := l.pickInts(m, r.selected)
	if !ok {
		return false
	}
	r.ints[c] = slices.Grow(r.ints[c][:0], l.rows)[:l.rows]
	for i, row := range r.selected {
		r.ints[c][row] = picked[i]
	}
	return true
}

// List is one leaf of the attributes of a row: c is AttributeKeys or
// AttributeValues, whose lists go together. It is nil if the column was not
// asked for.
func (r *Rows) List(c Column, row int32) []string {
	l := &r.columns[c]
	if !l.done || l.kind != kindMapKey && l.kind != kindMapValue {
		return nil
	}
	if l.list == nil {
		for _, code := range r.codes[c] {
			l.list = append(l.list, l.dict[code])
		}
	}
	return l.list[l.at[row]:l.at[row+1]]
}

// Aggregates are the sums per minute, edge and protocol, from the index alone.
func (s *Segment) Aggregates() ([]Aggregate, error) {
	b, err := s.part(partAggregates)
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.name, err)
	}
	list, ok := readAggregates(b)
	if !ok {
		return nil, fmt.Errorf("%w: segment %s: index: aggregates", ErrCorrupt, s.name)
	}
	return list, nil
}

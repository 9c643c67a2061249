package segment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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
	Protocol            string
	PathPrefix          string

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
	selected []int32
	ints     [numColumns][]int64
	codes    [numColumns][]uint32
	columns  [numColumns]loaded
}

// loaded is a column as far as it has been decoded for the current group.
type loaded struct {
	encoded
	done bool
	dict []string
	all  []string // of a map
	at   []int32
}

// Selected are the rows that match, as places in the slices of the other
// methods.
func (r *Rows) Selected() []int32 { return r.selected }

// Ints is a column of numbers, an entry for each row of the group. A status is
// one above the column's, and 0 where that is null; a bit is 0 or 1. It is nil
// for a column that is not a number, was not asked for or is not in the file.
func (r *Rows) Ints(c Column) []int64 {
	if l := &r.columns[c]; !l.done || l.kind > kindBool {
		return nil
	}
	return r.ints[c]
}

// Texts is a column of texts: its dictionary, and a place in it for each row of
// the group. It is nil for a column that is not text, was not asked for or is
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

// Records builds the selected records, at most limit, with all their columns.
// What the scan had not read is read now.
func (r *Rows) Records(ctx context.Context, limit int) ([]Found, error) {
	all := make([]Column, numColumns)
	for c := range all {
		all[c] = Column(c)
	}
	if err := r.data.read(ctx, all); err != nil {
		return nil, err
	}
	return r.data.records(r.selected[:min(len(r.selected), limit)])
}

// Scan yields the matching records of one row group after another, until yield
// returns false. Row groups that cannot hold a match are not read. What is
// damaged is passed over and told: the error then wraps ErrCorrupt, and what was
// yielded is good.
func (s *Segment) Scan(ctx context.Context, q Query, yield func(*Rows) bool) error {
	c := scan{Segment: s, from: math.MinInt64, to: math.MaxInt64, Query: q}
	if !q.From.IsZero() {
		c.from = q.From.UnixNano()
	}
	if !q.To.IsZero() {
		c.to = q.To.UnixNano()
	}
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

// group scans one row group; false ends the scan.
func (s *scan) group(ctx context.Context, number int, yield func(*Rows) bool) (bool, error) {
	d, err := s.groupData(number)
	if err != nil {
		return true, err
	}
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
		g.maxCode < int64(s.MinCode) || s.Failed && !g.anyFailed {
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

// conditions are the columns that the filter looks at.
func (s *scan) conditions(d *groupData) (list []Column) {
	for _, c := range []struct {
		column Column
		needed bool
	}{
		{Start, s.bounded(d)}, {Duration, s.MinDuration > 0}, {Code, s.MinCode > 0 || s.Failed}, {GRPCStatus, s.Failed},
		{SourceService, s.Source != ""}, {DestinationService, s.Destination != ""}, {Protocol, s.Protocol != ""}, {Path, s.PathPrefix != ""},
	} {
		if c.needed {
			list = append(list, c.column)
		}
	}
	return list
}

// bounded reports that some rows of the group may lie outside of the time.
func (s *scan) bounded(d *groupData) bool {
	return d.stats.minStart < s.from || d.stats.maxStart >= s.to
}

// filter narrows the selection, by what leaves least first: of the later columns
// only the values of the rows that are left are looked at, if they are few.
func (s *scan) filter(r *Rows) error {
	if s.MinCode > 0 {
		if err := r.keepInts(Code, func(v int64) bool { return v >= int64(s.MinCode) }); err != nil {
			return err
		}
	}
	if s.Failed {
		if err := r.keepFailed(); err != nil {
			return err
		}
	}
	equal := func(want string) func(string) bool { return func(have string) bool { return have == want } }
	for _, t := range []struct {
		column Column
		text   string
		match  func(string) bool
	}{
		{DestinationService, s.Destination, equal(s.Destination)},
		{SourceService, s.Source, equal(s.Source)},
		{Protocol, s.Protocol, equal(s.Protocol)},
		{Path, s.PathPrefix, func(have string) bool { return strings.HasPrefix(have, s.PathPrefix) }},
	} {
		if t.text != "" {
			if err := r.keepTexts(t.column, t.match); err != nil {
				return err
			}
		}
	}
	if s.MinDuration > 0 {
		if err := r.keepInts(Duration, func(v int64) bool { return v >= int64(s.MinDuration) }); err != nil {
			return err
		}
	}
	if s.bounded(r.data) {
		return r.keepInts(Start, func(v int64) bool { return v >= s.from && v < s.to })
	}
	return nil
}

// reset begins with all rows of a group.
func (r *Rows) reset(d *groupData) {
	r.data = d
	clear(r.columns[:])
	r.selected = slices.Grow(r.selected[:0], d.rows)
	for i := range d.rows {
		r.selected = append(r.selected, int32(i))
	}
}

// keep keeps the selected rows for which match says so.
func (r *Rows) keep(match func(row int32) bool) {
	kept := r.selected[:0]
	for _, row := range r.selected {
		if match(row) {
			kept = append(kept, row)
		}
	}
	r.selected = kept
}

func (r *Rows) keepInts(c Column, match func(int64) bool) error {
	if len(r.selected) == 0 {
		return nil
	}
	if err := r.load(c); err != nil {
		return err
	}
	v := r.Ints(c)
	if v == nil { // the file lacks the column: all are zero
		if !match(0) {
			r.selected = r.selected[:0]
		}
		return nil
	}
	r.keep(func(row int32) bool { return match(v[row]) })
	return nil
}

func (r *Rows) keepFailed() error {
	if len(r.selected) == 0 {
		return nil
	}
	if err := errors.Join(r.load(Code), r.open(GRPCStatus)); err != nil {
		return err
	}
	if r.columns[GRPCStatus].entries > 0 { // else all are null
		if err := r.load(GRPCStatus); err != nil {
			return err
		}
	}
	code, grpc := r.Ints(Code), r.Ints(GRPCStatus)
	r.keep(func(row int32) bool {
		var c, g int64
		if code != nil {
			c = code[row]
		}
		if grpc != nil {
			g = grpc[row]
		}
		return failed(c, g)
	})
	return nil
}

// keepTexts looks at the dictionary first: mostly it has none, and the codes
// need not be read, or all.
func (r *Rows) keepTexts(c Column, match func(string) bool) error {
	if len(r.selected) == 0 {
		return nil
	}
	l := &r.columns[c]
	if err := r.open(c); err != nil {
		return err
	}
	hit, hits := make([]bool, len(l.dict)), 0
	for i, s := range l.dict {
		if hit[i] = match(s); hit[i] {
			hits++
		}
	}
	switch {
	case hits == 0: // also if the file lacks the column
		r.selected = r.selected[:0]
		return nil
	case hits == len(hit):
		return nil
	}
	if len(r.selected) < l.rows/fewRows {
		return r.keepPicked(c, hit)
	}
	if err := r.load(c); err != nil {
		return err
	}
	codes := r.codes[c]
	r.keep(func(row int32) bool { return hit[codes[row]] })
	return nil
}

// fewRows of a group are picked out of it without decoding the rest.
const fewRows = 16

// keepPicked keeps the selected rows whose codes are hit.
func (r *Rows) keepPicked(c Column, hit []bool) error {
	l := &r.columns[c]
	codes, ok := pickHybrid(r.codes[c], l.body, l.width, r.selected, uint32(l.entries))
	if !ok {
		return r.data.corrupt(c)
	}
	r.codes[c] = codes
	kept := r.selected[:0]
	for i, row := range r.selected {
		if hit[codes[i]] {
			kept = append(kept, row)
		}
	}
	r.selected = kept
	return nil
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
		r.codes[c], ok = l.encoded.codes(r.codes[c], l.rows)
	case kindMapKey, kindMapValue:
		l.all, l.at, ok = l.lists()
	default:
		r.ints[c], ok = l.intsWith(r.ints[c], &r.codes[c])
	}
	if !ok {
		return r.data.corrupt(c)
	}
	l.done = true
	return nil
}

// List is one leaf of the attributes of a row: c is AttributeKeys or
// AttributeValues, whose lists go together. It is nil if the column was not
// asked for.
func (r *Rows) List(c Column, row int32) []string {
	if l := &r.columns[c]; l.done && l.at != nil {
		return l.all[l.at[row]:l.at[row+1]]
	}
	return nil
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

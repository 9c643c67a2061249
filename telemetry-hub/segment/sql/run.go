package sql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// defaultMemory is what a query may take besides the row group that is read.
const defaultMemory = 256 << 20

// maxFound bounds the records of one ID.
const maxFound = 100_000

// Options of Run. The zero value is ready.
type Options struct {
	Now    time.Time // of now(); time.Now() if zero
	Memory int64     // bytes that groups, values and rows may take; 256 MiB if 0
}

// Result is the answer to a query.
type Result struct {
	Columns []string
	Kinds   []Kind
	Rows    [][]Value
	Scanned int64 // records that were looked at, of row groups that were not passed over
	// Notes are what who reads the answer has to know of it, as that a quantile is
	// not exact.
	Notes []string
	// Damaged is what could not be read; the answer lacks it.
	Damaged []error
}

// Check binds a query to the columns without running it. Its error is an *Error
// or an *UnsupportedError.
func Check(q *Query) error {
	again := *q
	_, err := newPlan(&again, time.Unix(0, 0), defaultMemory)
	return err
}

// Run answers a query over the records of the segments. Row groups in which no
// record can match are not read, and of the others only the columns that the
// query names. Its error is an *Error or an *UnsupportedError, a *MemoryError, or
// one of reading. Damage is no error and told in the result.
func Run(ctx context.Context, q *Query, segments []*segment.Segment, o Options) (*Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	again := *q
	p, err := newPlan(&again, o.Now, o.Memory)
	if err != nil {
		return nil, err
	}
	r := &runner{plan: p, result: &Result{}, answer: newAnswer(p)}
	if p.grouped {
		r.growAggregates()
	}
	if err := r.read(ctx, segments); err != nil {
		return nil, err
	}
	return r.finish()
}

// runner is one run of a query.
type runner struct {
	*plan
	result *Result
	answer *answer
	all    []int32
	kept   []int32
	err    error
}

func (r *runner) read(ctx context.Context, segments []*segment.Segment) error {
	scan := r.prune.scan
	scan.Columns = r.table.columns()
	for _, s := range segments {
		var err error
		if r.prune.find != "" {
			err = r.find(ctx, s)
		} else {
			err = s.Scan(ctx, scan, r.group)
		}
		if r.err != nil {
			return r.err
		}
		if err := r.note(err); err != nil {
			return err
		}
		if r.answer.full() {
			break
		}
	}
	return nil
}

// note keeps what is damaged apart from other errors, which end the query.
func (r *runner) note(err error) error {
	list, others := segment.Damages(err)
	for _, d := range list {
		r.result.Damaged = append(r.result.Damaged, d)
	}
	for _, err := range others {
		if !errors.Is(err, segment.ErrCorrupt) {
			return err
		}
		r.result.Damaged = append(r.result.Damaged, err)
	}
	return nil
}

// find takes the records that a look-up by ID finds.
func (r *runner) find(ctx context.Context, s *segment.Segment) error {
	found, err := s.Find(ctx, r.prune.find, maxFound)
	if len(found) == maxFound {
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("segment %s has more than %d records of this ID; the answer is of the newest", s.Name(), maxFound))
	}
	for len(r.all) < len(found) {
		r.all = append(r.all, int32(len(r.all)))
	}
	r.table.rows, r.table.found = nil, found
	if len(found) > 0 {
		r.take(r.all[:len(found)])
	}
	return err
}

// group takes the records of one row group; false ends the scan.
func (r *runner) group(rows *segment.Rows) bool {
	r.table.rows = rows
	r.take(rows.Selected())
	return r.err == nil && !r.answer.full()
}

// take takes some rows of the table in.
func (r *runner) take(rows []int32) {
	r.result.Scanned += int64(len(rows))
	r.table.pick(rows)
	for _, w := range r.where {
		b := r.table.batch()
		rows = r.filter(b, w, rows)
		if b.err != nil {
			r.err = b.err
			return
		}
		if len(rows) == 0 {
			return
		}
	}
	b := r.table.batch()
	if r.grouped {
		r.err = r.addUp(b)
	} else {
		r.err = r.answer.add(b, nil)
	}
	if r.err == nil {
		r.err = b.err
	}
}

// filter picks the rows for which a condition is true, neither false nor null.
func (r *runner) filter(b *batch, w node, rows []int32) []int32 {
	hit := w.eval(b)
	kept := r.kept[:0] // rows may be it: what is written has been read before
	for i, row := range rows {
		if hit.ints[i] != 0 && !hit.null(i) {
			kept = append(kept, row)
		}
	}
	r.kept = kept
	if len(kept) != len(rows) {
		r.table.pick(kept)
	}
	return kept
}

// addUp gives the rows of a batch to the aggregates of their groups.
func (r *runner) addUp(b *batch) error {
	numbers, err := r.groups.assign(b)
	if err != nil {
		return err
	}
	r.growAggregates()
	for _, a := range r.aggs {
		if err := a.add(b, numbers); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) growAggregates() {
	for _, a := range r.aggs {
		a.acc.grow(r.groups.count())
	}
}

// groupBatch is how many groups are computed at a time.
const groupBatch = 4096

func (r *runner) finish() (*Result, error) {
	if r.grouped {
		for from := 0; from < r.groups.count(); from += groupBatch {
			if err := r.computeGroups(from, min(from+groupBatch, r.groups.count())); err != nil {
				return nil, err
			}
		}
		r.noteQuantiles()
	}
	for i, n := range r.outputs {
		r.result.Columns = append(r.result.Columns, r.query.Select[i].Name)
		r.result.Kinds = append(r.result.Kinds, n.kind())
	}
	r.result.Rows = r.answer.finish()
	return r.result, nil
}

// computeGroups makes rows of some groups.
func (r *runner) computeGroups(from, to int) error {
	var columns []vector
	values := make([]Value, to-from)
	for k, key := range r.groups.keys {
		for i := range values {
			values[i] = r.groups.values[from+i][k]
		}
		columns = append(columns, vector{})
		columns[len(columns)-1].take(key.kind(), values)
	}
	for _, a := range r.aggs {
		for i := range values {
			values[i] = a.acc.value(from + i)
		}
		columns = append(columns, vector{})
		columns[len(columns)-1].take(a.acc.kind(), values)
	}
	b := &batch{n: to - from, slot: func(i int) *vector { return &columns[i] }}
	var keep *vector
	if r.having != nil {
		keep = r.having.eval(b)
	}
	if err := r.answer.add(b, keep); err != nil {
		return err
	}
	return b.err
}

// noteQuantiles says which quantiles are not exact.
func (r *runner) noteQuantiles() {
	for _, a := range r.aggs {
		if q, ok := a.acc.(*quantiles); ok && q.rough > 0 {
			r.result.Notes = append(r.result.Notes, fmt.Sprintf("%s is within 6.25 %% in %d of %d groups: of more than %d values it is taken from a histogram", a.text, q.rough, r.groups.count(), maxExact))
		}
	}
}

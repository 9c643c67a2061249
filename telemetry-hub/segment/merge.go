package segment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// MergeOptions of Merge. The zero value is ready.
type MergeOptions struct {
	Builder BuilderOptions
	// Keep says which records the new segment has; the zero Query takes all. Its
	// Columns and Backwards mean nothing here.
	Keep Query
	// WholeTraces keeps all records of the traces of which Keep takes one, in
	// whichever of the segments they are: who looks for a request that failed
	// wants all its hops. It reads what Keep looks at twice, and holds each kept
	// trace in memory (about 60 bytes). Records without a trace ID are kept as
	// Keep says.
	WholeTraces bool
	// OnDamage, if not nil, is told of each row group that is passed over, and
	// why; it wraps ErrCorrupt.
	OnDamage func(error)
}

// Merge seals one new segment at dst, which must not be the path of one of
// them, with the records of others. They may overlap in time: their row groups
// are taken in the order in which they end, so what belongs together in time
// comes into the same sealing window. It is as safe against crashes as Seal,
// leaves the others as they are, and needs as much memory as a Builder and a
// row group besides. If nothing is kept it seals a segment of no rows.
//
// A damaged row group is passed over, whole, and counted in the Summary: who
// drops the others then drops what is still readable in it. What cannot be read
// for another reason ends the merge. Columns that this program does not know
// are left behind (see Segment.UnknownColumns).
func Merge(ctx context.Context, dst string, from []*Segment, o MergeOptions) (Summary, error) {
	b, err := NewBuilder(dst, o.Builder)
	if err != nil {
		return Summary{}, err
	}
	m := merger{builder: b, o: o, damaged: make(map[place]bool), whole: o.WholeTraces && o.Keep.conditional()}
	s, err := m.run(ctx, from)
	if err != nil {
		return Summary{}, errors.Join(fmt.Errorf("merge %d segments to %s: %w", len(from), dst, err), b.Abort())
	}
	s.SkippedGroups, s.SkippedRows = len(m.damaged), m.skippedRows(from)
	return s, nil
}

// conditional reports that the query does not take everything.
func (q *Query) conditional() bool {
	return !q.From.IsZero() || !q.To.IsZero() || q.Source != "" || q.Destination != "" || q.MinCode > 0 || q.Failed ||
		q.MinDuration > 0 || q.FailedOrSlow > 0 || q.Protocol != "" || q.PathPrefix != ""
}

// place of a row group among the segments.
type place struct {
	segment *Segment
	number  int
}

// merger is one call of Merge.
type merger struct {
	builder  *Builder
	absorber absorber
	o        MergeOptions
	scan     scan
	whole    bool
	traces   map[[16]byte]bool // to be kept whole
	damaged  map[place]bool
}

func (m *merger) run(ctx context.Context, from []*Segment) (Summary, error) {
	order := mergeOrder(from)
	if m.whole {
		m.traces = make(map[[16]byte]bool)
		if err := m.each(ctx, order, m.collect); err != nil {
			return Summary{}, err
		}
	}
	if err := m.each(ctx, order, m.copy); err != nil {
		return Summary{}, err
	}
	return m.builder.Seal()
}

// mergeOrder is the order in which row groups are taken: those of one segment
// as they stand, and among segments by which ends first. Its first start would
// not do: a request that took an hour is in the row group of its end.
func mergeOrder(from []*Segment) (order []place) {
	next, ends := make([]int, len(from)), make([]int64, len(from))
	look := func(i int) {
		if ends[i] = math.MinInt64; next[i] < from[i].header.groups {
			if g, err := from[i].group(next[i]); err == nil { // one that is damaged comes at once, to be counted
				ends[i] = g.stats.maxStart
			}
		}
	}
	for i := range from {
		look(i)
	}
	for {
		best := -1
		for i, s := range from {
			if next[i] < s.header.groups && (best < 0 || ends[i] < ends[best]) {
				best = i
			}
		}
		if best < 0 {
			return order
		}
		order = append(order, place{from[best], next[best]})
		next[best]++
		look(best)
	}
}

// each calls do for the row groups that may hold something to be kept, and
// notes those that are damaged.
func (m *merger) each(ctx context.Context, order []place, do func(context.Context, *groupData) error) error {
	for _, p := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.damaged[p] {
			continue
		}
		d, err := p.segment.groupData(p.number)
		if err == nil {
			m.scan.use(p.segment, m.o.Keep)
			err = do(ctx, d)
			d.release()
		}
		if err != nil {
			if err := m.passOver(p, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// passOver notes a damaged row group; another error is handed back.
func (m *merger) passOver(p place, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	m.damaged[p] = true
	if m.o.OnDamage != nil {
		m.o.OnDamage(err)
	}
	return nil
}

// skippedRows counts the rows of the damaged row groups. Where the entry of one
// is damaged, its rows are what the others lack.
func (m *merger) skippedRows(from []*Segment) (n int) {
	for _, s := range from {
		n += s.Rows()
		for i := range s.header.groups {
			if g, err := s.group(i); err == nil && !m.damaged[place{s, i}] {
				n -= g.rows
			}
		}
	}
	return n
}

// selectKept leaves the rows that Keep takes selected.
func (m *merger) selectKept(ctx context.Context, d *groupData) error {
	m.scan.rows.reset(d)
	if m.scan.prunable(d.number, &d.stats) {
		m.scan.rows.none()
		return nil
	}
	if err := d.read(ctx, m.scan.conditions(d)); err != nil {
		return err
	}
	return m.scan.filter(&m.scan.rows)
}

// collect notes the traces of what Keep takes.
func (m *merger) collect(ctx context.Context, d *groupData) error {
	r := &m.scan.rows
	if err := m.selectKept(ctx, d); err != nil || len(r.selected) == 0 {
		return err
	}
	if err := d.read(ctx, []Column{TraceID}); err != nil {
		return err
	}
	if err := r.load(TraceID); err != nil {
		return err
	}
	for _, row := range r.selected {
		if id := r.TraceID(row); id != ([16]byte{}) {
			m.traces[id] = true
		}
	}
	return nil
}

// copy adds what is to be kept of a row group to the builder.
func (m *merger) copy(ctx context.Context, d *groupData) error {
	r := &m.scan.rows
	if err := m.selectKept(ctx, d); err != nil {
		return err
	}
	if m.whole {
		if err := m.selectTraces(ctx, d); err != nil {
			return err
		}
	}
	if len(r.selected) == 0 {
		return nil
	}
	if err := d.read(ctx, allColumns()); err != nil {
		return err
	}
	for c := range numColumns { // all, before anything is added
		if err := r.load(c); err != nil {
			return err
		}
	}
	if !r.evenLists() {
		return d.corrupt(AttributeValues)
	}
	return m.builder.addRows(&m.absorber, r)
}

// selectTraces adds the rows of the kept traces to the selection.
func (m *merger) selectTraces(ctx context.Context, d *groupData) error {
	if err := d.read(ctx, []Column{TraceID}); err != nil {
		return err
	}
	rows, err := d.rowsOfTraces(m.traces)
	if err != nil {
		return err
	}
	r := &m.scan.rows
	rows = append(rows, r.selected...)
	slices.Sort(rows)
	r.take(slices.Compact(rows))
	return nil
}

// evenLists reports that keys and values of the attributes, if the file has
// both, belong to the same rows.
func (r *Rows) evenLists() bool {
	keys, values := &r.columns[AttributeKeys], &r.columns[AttributeValues]
	return !keys.done || !values.done || slices.Equal(keys.at, values.at)
}

// UnknownColumns are those of a segment that a newer program wrote which this
// one does not know: it reads the others, and a merge would lose them.
func (s *Segment) UnknownColumns() (names []string) {
	for i, c := range s.columns {
		if !slices.Contains(s.leaf[:], i) {
			names = append(names, c.name)
		}
	}
	return names
}

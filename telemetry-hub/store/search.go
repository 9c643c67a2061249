package store

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// Query says which records a search is for.
type Query struct {
	// Limit is how many at most, the newest of those that match.
	Limit int
	// Match decides.
	Match func(*record.Record, *telemetryv1.Edge) bool
	// Where says what Match asks for as far as it can: sealed records that do not
	// meet it are not read. The zero value is always right. Its Columns and
	// Backwards mean nothing here.
	Where segment.Query
}

// maxSearch bounds the time of one search: a rare match in a large store ends
// with what was found, marked as incomplete.
const maxSearch = 2 * time.Second

// Search returns the newest records that match, by their start, the newest first.
// It reports false when there may be more: the limit was reached, or the time
// that a search may take was up.
func (s *Store) Search(ctx context.Context, q Query) (found []Found, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, maxSearch)
	defer cancel()
	v := s.view()
	defer v.done()
	c := search{Query: q, s: s}
	for i := len(v.logs) - 1; i >= 0; i-- {
		c.log(ctx, v.logs[i])
	}
	// By their newest record: what is sealed later may have begun earlier.
	bySpan := slices.Concat(v.segments, v.remote)
	slices.SortStableFunc(bySpan, func(a, b *sealedFile) int { return cmp.Compare(b.newest, a.newest) })
	for _, sf := range bySpan {
		c.segment(ctx, sf)
	}
	slices.SortFunc(c.best, func(a, b Found) int {
		return cmp.Or(b.Record.Start.Compare(a.Record.Start), bytes.Compare(a.Record.SpanID[:], b.Record.SpanID[:]))
	})
	if len(v.remote) > 0 {
		c.best = once(c.best)
	}
	return c.best, !c.more && ctx.Err() == nil
}

// search is one call of Search. The best so far are a heap, its oldest on top.
type search struct {
	Query
	s    *Store
	best newest
	more bool // something that matches, or may, is not among the best
}

type newest []Found

func (n newest) Len() int           { return len(n) }
func (n newest) Less(i, j int) bool { return n[i].Record.Start.Before(n[j].Record.Start) }
func (n newest) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *newest) Push(x any)        { *n = append(*n, x.(Found)) }
func (n *newest) Pop() any {
	last := (*n)[len(*n)-1]
	*n = (*n)[:len(*n)-1]
	return last
}

// late reports that records of that start, in Unix nanoseconds, and older ones
// are not wanted any more.
func (c *search) late(start int64) bool {
	return len(c.best) == c.Limit && start <= c.best[0].Record.Start.UnixNano()
}

func (c *search) add(f Found) {
	if !c.Match(&f.Record, f.Edge) {
		return
	}
	if len(c.best) < c.Limit {
		heap.Push(&c.best, f)
		return
	}
	c.more = true
	if !c.late(f.Record.Start.UnixNano()) {
		c.best[0] = f
		heap.Fix(&c.best, 0)
	}
}

// log searches a log backwards. A batch was sent after its requests began, so
// the first one that is too old ends it.
func (c *search) log(ctx context.Context, log logView) {
	all := func(*record.Columns, int) bool { return true }
	for _, offset := range slices.Backward(log.frames) {
		if ctx.Err() != nil {
			return
		}
		at, found := c.s.read(log.logFile, offset, all, 0)
		if at != 0 && c.late(at) {
			c.more = true
			return
		}
		for _, f := range found {
			c.add(f)
		}
	}
}

// segment searches a segment, without what is too old.
func (c *search) segment(ctx context.Context, sf *sealedFile) {
	if ctx.Err() != nil {
		return
	}
	if c.late(sf.newest) {
		c.more = true
		return
	}
	q := c.Where
	q.Columns, q.Backwards = []segment.Column{segment.Start}, true
	if len(c.best) == c.Limit {
		if from := c.best[0].Record.Start; q.From.Before(from) {
			q.From, c.more = from, true
		}
	}
	err := sf.Scan(ctx, q, func(r *segment.Rows) bool {
		c.tell(ctx, sf, c.rows(ctx, r))
		return ctx.Err() == nil
	})
	c.tell(ctx, sf, err)
}

func (c *search) tell(ctx context.Context, sf *sealedFile, err error) {
	if sf.data == nil { // it is in the bucket only
		c.more = c.more || c.s.tellRemote(ctx, sf, err) != nil
		return
	}
	c.s.tell(ctx, sf, err)
}

// builtFirst is how many records of a row group are built and matched before the
// rest, which mostly are not needed then.
const builtFirst = 256

// rows adds the records of one row group, the newest first, until the rest is
// too old.
func (c *search) rows(ctx context.Context, r *segment.Rows) error {
	starts := r.Ints(segment.Start)
	rows := slices.Clone(r.Selected())
	slices.SortFunc(rows, func(a, b int32) int { return cmp.Compare(starts[b], starts[a]) })
	for n := min(len(rows), builtFirst); len(rows) > 0 && ctx.Err() == nil; n = len(rows) {
		if c.late(starts[rows[0]]) {
			c.more = true
			return nil
		}
		part := slices.Sorted(slices.Values(rows[:n]))
		rows = rows[n:]
		found, err := r.RecordsAt(ctx, part)
		for _, f := range found {
			c.add(Found{f.Record, f.Edge})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

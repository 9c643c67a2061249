package sql

import (
	"slices"
	"strings"
)

// answer collects the rows of the result. With an order and a limit it holds
// about twice as many as are asked for.
type answer struct {
	*plan
	rows []row
	want int64 // limit and offset, -1 for all
	// worst is the order of the last of the rows that are wanted, once there are
	// so many: what comes behind it is dropped at once.
	worst   []Value
	scratch []Value
}

type row struct {
	values, order []Value
	bytes         int
}

func newAnswer(p *plan) *answer {
	a := &answer{plan: p, want: -1}
	if p.query.Limit >= 0 {
		a.want = p.query.Limit + min(p.query.Offset, 1<<40)
	}
	return a
}

// full reports that no further row can be in the answer.
func (a *answer) full() bool {
	return a.want == 0 || a.want > 0 && len(a.orders) == 0 && int64(len(a.rows)) >= a.want
}

// slack is how many rows more than wanted are collected between sorts.
const slack = 128

// add computes the rows of a batch for which keep is true, or all.
func (a *answer) add(b *batch, keep *vector) error {
	columns := make([]*vector, len(a.outputs))
	for i, n := range a.outputs {
		columns[i] = n.eval(b)
	}
	order := make([]*vector, len(a.orders))
	for i, n := range a.orders {
		order[i] = n.eval(b)
	}
	if b.err != nil {
		return b.err
	}
	for i := range b.n {
		if keep != nil && (keep.null(i) || keep.ints[i] == 0) {
			continue
		}
		if a.full() {
			break
		}
		a.scratch = appendValues(a.scratch[:0], order, i)
		if a.worst != nil && a.compare(a.scratch, a.worst) >= 0 {
			continue
		}
		r := row{values: appendValues(make([]Value, 0, len(columns)), columns, i), order: slices.Clone(a.scratch)}
		r.own()
		if err := a.m.take(r.bytes); err != nil {
			return err
		}
		if a.rows = append(a.rows, r); a.want >= 0 && int64(len(a.rows)) >= 2*a.want+slack {
			a.cut()
		}
	}
	return nil
}

func appendValues(dst []Value, columns []*vector, i int) []Value {
	for _, v := range columns {
		dst = append(dst, v.at(i))
	}
	return dst
}

// own makes the row keep no dictionary, and counts its memory.
func (r *row) own() {
	for _, list := range [][]Value{r.values, r.order} {
		for i := range list {
			list[i].Text = strings.Clone(list[i].Text)
			r.bytes += valueBytes + len(list[i].Text)
		}
	}
}

// compare orders two rows. Null comes last, whichever the direction, unless
// NULLS FIRST says otherwise.
func (a *answer) compare(x, y []Value) int {
	for i, o := range a.query.OrderBy {
		xn, yn := x[i].Kind == KindNull, y[i].Kind == KindNull
		if xn || yn {
			if xn == yn {
				continue
			}
			if xn == o.NullsFirst {
				return -1
			}
			return 1
		}
		c := compare(x[i], y[i])
		if o.Descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// cut sorts and drops what cannot be in the answer.
func (a *answer) cut() {
	if len(a.orders) > 0 {
		slices.SortStableFunc(a.rows, func(x, y row) int { return a.compare(x.order, y.order) })
	}
	if a.want < 0 || int64(len(a.rows)) < a.want {
		return
	}
	for _, r := range a.rows[a.want:] {
		a.m.giveBack(r.bytes)
	}
	clear(a.rows[a.want:])
	a.rows = a.rows[:a.want]
	if a.want > 0 && len(a.orders) > 0 {
		a.worst = a.rows[a.want-1].order
	}
}

func (a *answer) finish() [][]Value {
	a.cut()
	out := [][]Value{}
	for i := min(a.query.Offset, int64(len(a.rows))); i < int64(len(a.rows)); i++ {
		out = append(out, a.rows[i].values)
	}
	return out
}

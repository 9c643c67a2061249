package sql

import (
	"slices"
	"strings"
)

var aggregateNames = []string{"count", "sum", "min", "max", "avg", "mean", "quantile", "quantile_disc", "quantile_cont"}

func isAggregate(name string) bool { return slices.Contains(aggregateNames, name) }

// accumulator is one aggregate over all groups.
type accumulator interface {
	kind() Kind
	grow(groups int)
	// add takes a batch in: row i belongs to group groups[i], to none if that is
	// negative. x is its argument, nil for count(*).
	add(x *vector, groups []int32) error
	value(group int) Value
}

// aggregate is an accumulator with what it reads.
type aggregate struct {
	text   string // canonical
	acc    accumulator
	arg    node // nil for count(*)
	filter node // nil for all
	kept   []int32
}

func (a *aggregate) add(b *batch, groups []int32) error {
	if a.filter != nil {
		f := a.filter.eval(b)
		a.kept = append(a.kept[:0], groups...)
		for i := range a.kept {
			if f.null(i) || f.ints[i] == 0 {
				a.kept[i] = -1
			}
		}
		groups = a.kept
	}
	if a.arg == nil {
		return a.acc.add(nil, groups)
	}
	return a.acc.add(a.arg.eval(b), groups)
}

// newAggregate binds an aggregate; b binds to rows.
func newAggregate(b *binder, c *Call, m *budget) (*aggregate, error) {
	a := &aggregate{text: c.String()}
	var err error
	for _, e := range children(c) {
		if aggregates(e) {
			return nil, b.errorf(e, "an aggregate within %s: aggregates cannot be nested", c.Name)
		}
	}
	if c.Filter != nil {
		if a.filter, err = b.bindAs(c.Filter, KindBool); err != nil {
			return nil, err
		}
	}
	if c.Star || c.Name == "count" && len(c.Args) == 0 {
		if c.Name != "count" {
			return nil, b.errorf(c, "%s(*): only count takes *", c.Name)
		}
		a.acc = &counts{}
		return a, nil
	}
	want := 1
	if strings.HasPrefix(c.Name, "quantile") {
		want = 2
	}
	if len(c.Args) != want {
		return nil, b.errorf(c, "%s has %d arguments, want %d", c.Name, len(c.Args), want)
	}
	if a.arg, err = b.bind(c.Args[0]); err != nil {
		return nil, err
	}
	if c.Distinct && c.Name != "count" {
		return nil, &UnsupportedError{posAt(b.text, c.At()), c.Name + "(distinct …)"}
	}
	return a, a.choose(b, c, m)
}

// choose finds the accumulator for the kind of the argument.
func (a *aggregate) choose(b *binder, c *Call, m *budget) error {
	k := a.arg.kind()
	number := k == KindInt || k == KindFloat
	switch {
	case c.Name == "count" && c.Distinct:
		a.acc = &distinct{seen: make(map[string]struct{}), m: m}
	case c.Name == "count":
		a.acc = &counts{}
	case c.Name == "sum" && (k == KindInt || k == KindInterval):
		a.acc = &intSums{of: k}
	case c.Name == "sum" && k == KindFloat:
		a.acc = &floatSums{}
	case (c.Name == "avg" || c.Name == "mean") && number:
		if k == KindInt {
			a.arg = asFloat(a.arg)
		}
		a.acc = &floatSums{mean: true}
	case c.Name == "min" && k != KindMap, c.Name == "max" && k != KindMap:
		a.acc = &extremes{of: k, max: c.Name == "max", m: m}
	case strings.HasPrefix(c.Name, "quantile") && (number || k == KindInterval):
		q, ok := fold(b, c.Args[1])
		if q.Kind == KindInt {
			q.Float = float64(q.Int)
		}
		if !ok || q.Kind != KindInt && q.Kind != KindFloat || !(q.Float >= 0 && q.Float <= 1) {
			return b.errorf(c.Args[1], "want a constant from 0 to 1, as quantile(duration, 0.99)")
		}
		a.acc = &quantiles{of: k, q: q.Float, between: c.Name == "quantile_cont", m: m}
	default:
		return b.errorf(c, "%s of a %s is not possible", c.Name, k)
	}
	return nil
}

// counts is count(*) and count(x).
type counts struct{ n []int64 }

func (c *counts) kind() Kind        { return KindInt }
func (c *counts) grow(groups int)   { c.n = growTo(c.n, groups) }
func (c *counts) value(g int) Value { return Value{Kind: KindInt, Int: c.n[g]} }
func (c *counts) add(x *vector, groups []int32) error {
	for i, g := range groups {
		if g >= 0 && (x == nil || !x.null(i)) {
			c.n[g]++
		}
	}
	return nil
}

func growTo[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	return append(s, make([]T, n-len(s))...)
}

// intSums is the sum of integers; of none it is null.
type intSums struct {
	of   Kind
	sums []int64
	any  []bool
}

func (s *intSums) kind() Kind { return s.of }

func (s *intSums) grow(groups int) { s.sums, s.any = growTo(s.sums, groups), growTo(s.any, groups) }

func (s *intSums) value(g int) Value {
	if !s.any[g] {
		return Value{}
	}
	return Value{Kind: s.of, Int: s.sums[g]}
}

func (s *intSums) add(x *vector, groups []int32) error {
	for i, g := range groups {
		if g < 0 || x.null(i) {
			continue
		}
		sum, ok := addInts(s.sums[g], x.ints[i])
		if !ok {
			return errOverflow
		}
		s.sums[g], s.any[g] = sum, true
	}
	return nil
}

// floatSums is the sum or the mean of doubles; of none it is null.
type floatSums struct {
	mean bool
	sums []float64
	n    []int64
}

func (s *floatSums) kind() Kind { return KindFloat }

func (s *floatSums) grow(groups int) { s.sums, s.n = growTo(s.sums, groups), growTo(s.n, groups) }

func (s *floatSums) value(g int) Value {
	v := Value{Kind: KindFloat, Float: s.sums[g]}
	if s.n[g] == 0 {
		return Value{}
	}
	if s.mean {
		v.Float /= float64(s.n[g])
	}
	return v
}

func (s *floatSums) add(x *vector, groups []int32) error {
	for i, g := range groups {
		if g >= 0 && !x.null(i) {
			s.sums[g] += x.floats[i]
			s.n[g]++
		}
	}
	return nil
}

// extremes is min and max.
type extremes struct {
	of   Kind
	max  bool
	m    *budget
	best []Value
}

func (e *extremes) kind() Kind        { return e.of }
func (e *extremes) grow(groups int)   { e.best = growTo(e.best, groups) }
func (e *extremes) value(g int) Value { return e.best[g] }

func (e *extremes) add(x *vector, groups []int32) error {
	for i, g := range groups {
		if g < 0 || x.null(i) {
			continue
		}
		v, best := x.at(i), &e.best[g]
		if best.Kind == KindNull || e.max && compare(v, *best) > 0 || !e.max && compare(v, *best) < 0 {
			if err := e.m.take(len(v.Text) - len(best.Text)); err != nil {
				return err
			}
			v.Text = strings.Clone(v.Text)
			*best = v
		}
	}
	return nil
}

// distinct is count(distinct x).
type distinct struct {
	n    []int64
	seen map[string]struct{}
	key  []byte
	m    *budget
}

// entryBytes is about what a map takes for an entry besides its key.
const entryBytes = 40

func (d *distinct) kind() Kind        { return KindInt }
func (d *distinct) grow(groups int)   { d.n = growTo(d.n, groups) }
func (d *distinct) value(g int) Value { return Value{Kind: KindInt, Int: d.n[g]} }

func (d *distinct) add(x *vector, groups []int32) error {
	text := x.kind == KindText || x.kind == KindMap
	lastGroup, lastCode := int32(-1), uint32(0)
	for i, g := range groups {
		if g < 0 || x.kind == KindNull || x.null(i) {
			continue
		}
		if text {
			if g == lastGroup && x.codes[i] == lastCode { // as those of a trace stand together
				continue
			}
			lastGroup, lastCode = g, x.codes[i]
		}
		d.key = appendKey(appendKey(d.key[:0], Value{Kind: KindInt, Int: int64(g)}), x.at(i))
		if _, ok := d.seen[string(d.key)]; ok {
			continue
		}
		if err := d.m.take(len(d.key) + entryBytes); err != nil {
			return err
		}
		d.seen[string(d.key)] = struct{}{}
		d.n[g]++
	}
	return nil
}

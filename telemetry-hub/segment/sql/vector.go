package sql

import "slices"

// vector is the values of an expression for the rows of a batch. ints has those
// of boolean, bigint, timestamp and interval. A text is a place in dict, so that
// what is asked of a text is asked once for all rows that have it.
type vector struct {
	kind   Kind
	ints   []int64
	floats []float64
	codes  []uint32
	dict   []string
	nulls  []bool // nil if there are none
}

func (v *vector) null(i int) bool { return v.nulls != nil && v.nulls[i] }

// at is one value.
func (v *vector) at(i int) Value {
	if v.kind == KindNull || v.null(i) {
		return Value{}
	}
	switch v.kind {
	case KindFloat:
		return Value{Kind: KindFloat, Float: v.floats[i]}
	case KindText, KindMap:
		return Value{Kind: v.kind, Text: v.dict[v.codes[i]]}
	}
	return Value{Kind: v.kind, Int: v.ints[i]}
}

// number is what a vector has of all kinds but texts.
type number interface{ int64 | float64 }

// numbers are v's ints or floats.
func numbers[T number](v *vector) []T {
	if ints, ok := any(&v.ints).(*[]T); ok {
		return *ints
	}
	return *any(&v.floats).(*[]T)
}

// reset makes room for n values of a kind, none of which is null.
func (v *vector) reset(k Kind, n int) {
	v.kind, v.nulls = k, nil
	switch k {
	case KindFloat:
		v.floats = slices.Grow(v.floats[:0], n)[:n]
	case KindText, KindMap:
		v.codes, v.dict = slices.Grow(v.codes[:0], n)[:n], v.dict[:0]
	case KindNull:
		v.allNull(n)
	default:
		v.ints = slices.Grow(v.ints[:0], n)[:n]
	}
}

func (v *vector) setNull(i, n int) {
	if v.nulls == nil {
		v.nulls = make([]bool, n)
	}
	v.nulls[i] = true
}

func (v *vector) allNull(n int) {
	v.nulls = make([]bool, n)
	for i := range v.nulls {
		v.nulls[i] = true
	}
}

// take fills v with values of one kind or null.
func (v *vector) take(k Kind, values []Value) {
	v.reset(k, len(values))
	for i, value := range values {
		if k == KindText || k == KindMap {
			v.codes[i] = uint32(i)
			v.dict = append(v.dict, value.Text)
		}
		switch {
		case value.Kind == KindNull:
			v.setNull(i, len(values))
		case k == KindFloat:
			v.floats[i] = value.Float
		case k != KindText && k != KindMap && k != KindNull:
			v.ints[i] = value.Int
		}
	}
}

// eitherNull joins the nulls of two vectors.
func eitherNull(a, b *vector) []bool {
	switch {
	case a.nulls == nil:
		return b.nulls
	case b.nulls == nil:
		return a.nulls
	}
	out := make([]bool, min(len(a.nulls), len(b.nulls))) // a constant may have more
	for i := range out {
		out[i] = a.nulls[i] || b.nulls[i]
	}
	return out
}

// batch is some rows that expressions are evaluated for.
type batch struct {
	n    int
	slot func(i int) *vector // a column; good until the next batch
	err  error               // the first that an expression ended with
}

func (b *batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// node is an expression that is bound to its columns. It has memory of its own
// for its values, which are good until it is evaluated again.
type node interface {
	kind() Kind
	eval(b *batch) *vector
}

// slot is a column of the batch.
type slot struct {
	number int
	of     Kind
}

func (s *slot) kind() Kind            { return s.of }
func (s *slot) eval(b *batch) *vector { return b.slot(s.number) }

// constant is the same for all rows.
type constant struct {
	value Value
	out   vector
	have  int
}

func (c *constant) kind() Kind { return c.value.Kind }

func (c *constant) eval(b *batch) *vector {
	if c.have < b.n {
		c.have = b.n
		c.out.reset(c.value.Kind, b.n)
		for i := range b.n {
			switch c.value.Kind {
			case KindFloat:
				c.out.floats[i] = c.value.Float
			case KindText:
				c.out.codes[i] = 0
			case KindNull:
			default:
				c.out.ints[i] = c.value.Int
			}
		}
		c.out.dict = append(c.out.dict[:0], c.value.Text)
	}
	return &c.out
}

package sql

import (
	"cmp"
	"strconv"
)

// mapNumbers computes one of what a vector has as numbers of one.
type mapNumbers[X, Y number] struct {
	x   node
	to  Kind
	f   func(X) Y // nil converts
	out vector
}

// mapped has f compute values of kind to, whose numbers are Ys, of those of x.
func mapped[X, Y number](x node, to Kind, f func(X) Y) node {
	return &mapNumbers[X, Y]{x: x, to: to, f: f}
}

// asFloat makes doubles of integers and truths; doubles stay as they are.
func asFloat(x node) node {
	if x.kind() == KindFloat {
		return x
	}
	return mapped[int64, float64](x, KindFloat, nil)
}

func (m *mapNumbers[X, Y]) kind() Kind { return m.to }

func (m *mapNumbers[X, Y]) eval(b *batch) *vector {
	x := m.x.eval(b)
	m.out.reset(m.to, b.n)
	in, out := numbers[X](x)[:b.n], numbers[Y](&m.out)[:b.n]
	if m.f == nil {
		for i, v := range in { // a call for each would cost more than this does
			out[i] = Y(v)
		}
	} else {
		for i, v := range in {
			out[i] = m.f(v)
		}
	}
	m.out.nulls = x.nulls
	return &m.out
}

// perValue computes something of each value, the slow way.
type perValue struct {
	x   node
	to  Kind
	f   func(Value) (Value, error) // of what is not null
	out vector
	tmp []Value
}

func (p *perValue) kind() Kind { return p.to }

func (p *perValue) eval(b *batch) *vector {
	x := p.x.eval(b)
	p.tmp = p.tmp[:0]
	for i := range b.n {
		v := x.at(i)
		if v.Kind != KindNull {
			var err error
			if v, err = p.f(v); err != nil {
				b.fail(err)
			}
		}
		p.tmp = append(p.tmp, v)
	}
	p.out.take(p.to, p.tmp)
	return &p.out
}

// mapTexts computes a text of one, once for each of the dictionary.
type mapTexts struct {
	x   node
	f   func(string) string
	out vector
}

func (m *mapTexts) kind() Kind { return KindText }

func (m *mapTexts) eval(b *batch) *vector {
	x := m.x.eval(b)
	dict := m.out.dict[:0]
	for _, s := range x.dict {
		dict = append(dict, m.f(s))
	}
	m.out = vector{kind: KindText, codes: x.codes, dict: dict, nulls: x.nulls}
	return &m.out
}

// hitTexts computes a number or truth of a text, once for each of the dictionary.
type hitTexts struct {
	x    node
	to   Kind
	f    func(string) int64
	hits []int64
	out  vector
}

func (h *hitTexts) kind() Kind { return h.to }

func (h *hitTexts) eval(b *batch) *vector {
	x := h.x.eval(b)
	h.hits = h.hits[:0]
	for _, s := range x.dict {
		h.hits = append(h.hits, h.f(s))
	}
	h.out.reset(h.to, b.n)
	for i, code := range x.codes[:b.n] {
		h.out.ints[i] = h.hits[code]
	}
	h.out.nulls = x.nulls
	return &h.out
}

// mergeNumbers computes a number of two; not ok is null.
type mergeNumbers[T number] struct {
	l, r node
	to   Kind
	f    func(a, b T) (v T, ok bool)
	// overflow is the error of what is not ok, nil if that is null.
	overflow error
	out      vector
}

func (m *mergeNumbers[T]) kind() Kind { return m.to }

func (m *mergeNumbers[T]) eval(b *batch) *vector {
	l, r := m.l.eval(b), m.r.eval(b)
	m.out.reset(m.to, b.n)
	x, y, out := numbers[T](l)[:b.n], numbers[T](r)[:b.n], numbers[T](&m.out)[:b.n]
	nulls, own := eitherNull(l, r), false
	for i := range out {
		if nulls != nil && nulls[i] {
			continue
		}
		v, ok := m.f(x[i], y[i])
		out[i] = v
		if ok {
			continue
		}
		if m.overflow != nil {
			b.fail(m.overflow)
			continue
		}
		if !own { // the operands' is not to be changed
			fresh := make([]bool, b.n)
			copy(fresh, nulls)
			nulls, own = fresh, true
		}
		nulls[i] = true
	}
	m.out.nulls = nulls
	return &m.out
}

// concat joins two texts.
type concat struct {
	l, r node
	out  vector
}

func (c *concat) kind() Kind { return KindText }

func (c *concat) eval(b *batch) *vector {
	l, r := c.l.eval(b), c.r.eval(b)
	c.out.reset(KindText, b.n)
	c.out.nulls = eitherNull(l, r)
	seen := make(map[uint64]uint32)
	for i := range b.n {
		if c.out.null(i) {
			if len(c.out.dict) == 0 {
				c.out.dict = append(c.out.dict, "")
			}
			c.out.codes[i] = 0
			continue
		}
		key := uint64(l.codes[i])<<32 | uint64(r.codes[i])
		code, ok := seen[key]
		if !ok {
			code = uint32(len(c.out.dict))
			c.out.dict = append(c.out.dict, l.dict[l.codes[i]]+r.dict[r.codes[i]])
			seen[key] = code
		}
		c.out.codes[i] = code
	}
	return &c.out
}

// compared is a comparison of two values of one kind.
type compared struct {
	l, r node
	want func(order int) bool
	out  vector
}

func (c *compared) kind() Kind { return KindBool }

func (c *compared) eval(b *batch) *vector {
	l, r := c.l.eval(b), c.r.eval(b)
	c.out.reset(KindBool, b.n)
	c.out.nulls = eitherNull(l, r)
	hit := [3]int64{truth(c.want(-1)), truth(c.want(0)), truth(c.want(1))}
	switch c.l.kind() {
	case KindNull:
		c.out.allNull(b.n)
	case KindFloat:
		for i := range b.n {
			c.out.ints[i] = hit[1+compare(Value{Kind: KindFloat, Float: l.floats[i]}, Value{Kind: KindFloat, Float: r.floats[i]})]
		}
	case KindText:
		for i := range b.n {
			if !c.out.null(i) {
				c.out.ints[i] = hit[1+cmp.Compare(l.dict[l.codes[i]], r.dict[r.codes[i]])]
			}
		}
	default:
		for i := range b.n {
			c.out.ints[i] = hit[1+cmp.Compare(l.ints[i], r.ints[i])]
		}
	}
	return &c.out
}

// logic is and, or: of three values, as null is neither.
type logic struct {
	l, r node
	or   bool
	out  vector
}

func (l *logic) kind() Kind { return KindBool }

func (l *logic) eval(b *batch) *vector {
	x, y := l.l.eval(b), l.r.eval(b)
	l.out.reset(KindBool, b.n)
	decides := truth(l.or) // for or, one that is true decides; for and, one that is false
	for i := range b.n {
		xn, yn := x.null(i), y.null(i)
		switch {
		case !xn && x.ints[i] == decides, !yn && y.ints[i] == decides:
			l.out.ints[i] = decides
		case xn || yn:
			l.out.setNull(i, b.n)
		default:
			l.out.ints[i] = 1 - decides
		}
	}
	return &l.out
}

// nullTest is x is [not] null.
type nullTest struct {
	x   node
	not bool
	out vector
}

func (t *nullTest) kind() Kind { return KindBool }

func (t *nullTest) eval(b *batch) *vector {
	x := t.x.eval(b)
	t.out.reset(KindBool, b.n)
	for i := range b.n {
		t.out.ints[i] = truth(x.null(i) != t.not)
	}
	return &t.out
}

// coalesce is the first that is not null.
type coalesce struct {
	list []node
	of   Kind
	tmp  []Value
	out  vector
}

func (c *coalesce) kind() Kind { return c.of }

func (c *coalesce) eval(b *batch) *vector {
	c.tmp = append(c.tmp[:0], make([]Value, b.n)...)
	for _, n := range c.list {
		x := n.eval(b)
		for i := range c.tmp {
			if c.tmp[i].Kind == KindNull {
				c.tmp[i] = x.at(i)
			}
		}
	}
	c.out.take(c.of, c.tmp)
	return &c.out
}

// castTo converts one value; an error says that it cannot be.
func castTo(to Kind, v Value) (Value, error) {
	switch {
	case to == KindText:
		return Value{Kind: KindText, Text: v.String()}, nil
	case to == KindInt && v.Kind == KindText:
		n, err := strconv.ParseInt(v.Text, 10, 64)
		if err != nil {
			return Value{}, &castError{v.Text, to}
		}
		return Value{Kind: KindInt, Int: n}, nil
	case to == KindFloat && v.Kind == KindText:
		f, err := strconv.ParseFloat(v.Text, 64)
		if err != nil {
			return Value{}, &castError{v.Text, to}
		}
		return Value{Kind: KindFloat, Float: f}, nil
	case to == KindTime && v.Kind == KindText:
		n, ok := parseTime(v.Text)
		if !ok {
			return Value{}, &castError{v.Text, to}
		}
		return Value{Kind: KindTime, Int: n}, nil
	}
	return Value{}, &castError{v.String(), to}
}

// castError is a text that is not of the type that it should be.
type castError struct {
	text string
	to   Kind
}

func (e *castError) Error() string {
	return "cast: " + strconv.Quote(clip(e.text)) + " is no " + e.to.String() + "; leave such rows out with a condition"
}

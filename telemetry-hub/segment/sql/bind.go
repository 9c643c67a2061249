package sql

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/ids"
)

// binder makes nodes of expressions.
type binder struct {
	text string
	now  time.Time
	// resolve gives what stands for a whole expression, nil if its parts are to
	// be bound.
	resolve func(e Expr) (node, error)
}

func (b *binder) errorf(e Expr, format string, args ...any) error {
	return &Error{posAt(b.text, e.At()), fmt.Sprintf(format, args...)}
}

func (b *binder) bind(e Expr) (node, error) {
	if n, err := b.resolve(e); n != nil || err != nil {
		return n, err
	}
	switch e := e.(type) {
	case *Literal:
		return &constant{value: e.Value}, nil
	case *Unary:
		return b.unary(e)
	case *Binary:
		return b.binary(e)
	case *In:
		return b.in(e)
	case *Like:
		return b.like(e)
	case *IsNull:
		x, err := b.bind(e.X)
		return &nullTest{x: x, not: e.Not}, err
	case *Between:
		return b.between(e)
	case *Call:
		return b.call(e)
	case *Cast:
		return b.cast(e)
	}
	return nil, b.errorf(e, "%s cannot stand here", clip(e.String()))
}

// bindAs binds and demands a kind; null is of every kind.
func (b *binder) bindAs(e Expr, k Kind) (node, error) {
	n, err := b.bind(e)
	if err != nil {
		return nil, err
	}
	if n.kind() == KindNull {
		return nullOf(k), nil
	}
	if k == KindFloat && n.kind() == KindInt {
		return asFloat(n), nil
	}
	if n.kind() != k {
		return nil, b.errorf(e, "%s is a %s; want a %s", clip(e.String()), n.kind(), k)
	}
	return n, nil
}

// nullOf is null of a kind that others can be computed with.
func nullOf(k Kind) node { return &typedNull{of: k} }

type typedNull struct {
	of  Kind
	out vector
}

func (t *typedNull) kind() Kind { return t.of }

func (t *typedNull) eval(b *batch) *vector {
	t.out.reset(t.of, b.n)
	t.out.allNull(b.n)
	if t.of == KindText {
		t.out.dict = append(t.out.dict, "")
		clear(t.out.codes)
	}
	return &t.out
}

func (b *binder) unary(e *Unary) (node, error) {
	if e.Op == "not" {
		x, err := b.bindAs(e.X, KindBool)
		return mapped(x, KindBool, func(v int64) int64 { return 1 - v }), err
	}
	x, err := b.bind(e.X)
	if err != nil {
		return nil, err
	}
	switch x.kind() {
	case KindFloat:
		return mapped(x, KindFloat, func(v float64) float64 { return -v }), nil
	case KindInt, KindInterval:
		return mapped(x, x.kind(), func(v int64) int64 { return -v }), nil
	}
	return nil, b.errorf(e, "- of a %s: want a number", x.kind())
}

func (b *binder) binary(e *Binary) (node, error) {
	switch e.Op {
	case "and", "or":
		l, err := b.bindAs(e.L, KindBool)
		if err != nil {
			return nil, err
		}
		r, err := b.bindAs(e.R, KindBool)
		return &logic{l: l, r: r, or: e.Op == "or"}, err
	case "||":
		l, err := b.bindText(e.L)
		if err != nil {
			return nil, err
		}
		r, err := b.bindText(e.R)
		return &concat{l: l, r: r}, err
	case "+", "-", "*", "/", "//", "%":
		return b.arithmetic(e)
	}
	return b.comparison(e)
}

// bindText binds and makes a text of it.
func (b *binder) bindText(e Expr) (node, error) {
	x, err := b.bind(e)
	if err != nil || x.kind() == KindText {
		return x, err
	}
	if x.kind() == KindNull {
		return nullOf(KindText), nil
	}
	return &perValue{x: x, to: KindText, f: func(v Value) (Value, error) { return castTo(KindText, v) }}, nil
}

// pair binds two expressions to one kind: integers become doubles beside
// doubles, and constant texts become moments beside moments and trace IDs beside
// trace IDs.
func (b *binder) pair(e, f Expr) (l, r node, err error) {
	if l, err = b.bind(e); err != nil {
		return nil, nil, err
	}
	if r, err = b.bind(f); err != nil {
		return nil, nil, err
	}
	if l, err = b.adapt(e, l, f, r); err != nil {
		return nil, nil, err
	}
	if r, err = b.adapt(f, r, e, l); err != nil {
		return nil, nil, err
	}
	if l.kind() != r.kind() {
		return nil, nil, b.errorf(f, "%s is a %s and %s a %s; they cannot be compared or joined", clip(e.String()), l.kind(), clip(f.String()), r.kind())
	}
	return l, r, nil
}

// adapt makes n of the other's kind, if it can be.
func (b *binder) adapt(e Expr, n node, other Expr, beside node) (node, error) {
	literal, isText := e.(*Literal)
	isText = isText && literal.Value.Kind == KindText
	ref, isRef := other.(*Ref)
	switch {
	case n.kind() == KindNull && beside.kind() != KindNull:
		return nullOf(beside.kind()), nil
	case n.kind() == KindInt && beside.kind() == KindFloat:
		return asFloat(n), nil
	case isText && beside.kind() == KindTime:
		at, ok := parseTime(literal.Value.Text)
		if !ok {
			return nil, b.errorf(e, "%s is no timestamp: write one as '2026-01-31 12:00:00' or '2026-01-31T12:00:00Z'", clip(literal.Value.Text))
		}
		return &constant{value: Value{Kind: KindTime, Int: at}}, nil
	case isText && isRef && ref.Name == "trace_id":
		id, ok := parseTraceID(literal.Value.Text)
		if !ok {
			return nil, b.errorf(e, "%s is no trace ID: want 32 hexadecimal digits or a UUID", clip(literal.Value.Text))
		}
		return &constant{value: Value{Kind: KindText, Text: id}}, nil
	}
	return n, nil
}

// parseTraceID gives the form that the column has; zero is that of no trace.
func parseTraceID(s string) (string, bool) {
	id, ok := ids.ParseTraceID(s)
	return id.UUID(), ok || s == (ids.TraceID{}).UUID() || s == ids.TraceID{}.String()
}

var wants = map[string]func(int) bool{
	"=": func(o int) bool { return o == 0 }, "<>": func(o int) bool { return o != 0 }, "<": func(o int) bool { return o < 0 },
	"<=": func(o int) bool { return o <= 0 }, ">": func(o int) bool { return o > 0 }, ">=": func(o int) bool { return o >= 0 },
}

func (b *binder) comparison(e *Binary) (node, error) {
	l, r, err := b.pair(e.L, e.R)
	if err != nil {
		return nil, err
	}
	if l.kind() == KindMap {
		return nil, b.errorf(e, "attributes can be compared by key only: attributes['key']")
	}
	return compareNodes(l, r, e.Op), nil
}

// compareNodes asks the dictionary where one side is constant.
func compareNodes(l, r node, op string) node {
	want := wants[op]
	if c, ok := r.(*constant); ok && l.kind() == KindText {
		return &hitTexts{x: l, to: KindBool, f: func(s string) int64 { return truth(want(strings.Compare(s, c.value.Text))) }}
	}
	return &compared{l: l, r: r, want: want}
}

func (b *binder) between(e *Between) (node, error) {
	low, err := b.comparison(&Binary{at(e.At()), ">=", e.X, e.Low})
	if err != nil {
		return nil, err
	}
	high, err := b.comparison(&Binary{at(e.At()), "<=", e.X, e.High})
	if err != nil {
		return nil, err
	}
	return negated(&logic{l: low, r: high}, e.Not), nil
}

func negated(n node, not bool) node {
	if !not {
		return n
	}
	return mapped(n, KindBool, func(v int64) int64 { return 1 - v })
}

// in is a chain of or, or a look at the dictionary where all are constant texts.
func (b *binder) in(e *In) (node, error) {
	x, err := b.bind(e.X)
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool)
	var chain node
	for _, item := range e.List {
		n, err := b.comparison(&Binary{at(item.At()), "=", e.X, item})
		if err != nil {
			return nil, err
		}
		if l, ok := item.(*Literal); ok && l.Value.Kind == KindText && x.kind() == KindText {
			text := l.Value.Text
			if ref, ok := e.X.(*Ref); ok && ref.Name == "trace_id" {
				text, _ = parseTraceID(text)
			}
			set[text] = true
		}
		if chain == nil {
			chain = n
		} else {
			chain = &logic{l: chain, r: n, or: true}
		}
	}
	if x.kind() == KindText && allTexts(e.List) {
		chain = &hitTexts{x: x, to: KindBool, f: func(s string) int64 { return truth(set[s]) }}
	}
	return negated(chain, e.Not), nil
}

func allTexts(list []Expr) bool {
	for _, e := range list {
		if l, ok := e.(*Literal); !ok || l.Value.Kind != KindText {
			return false
		}
	}
	return true
}

func (b *binder) like(e *Like) (node, error) {
	x, err := b.bindAs(e.X, KindText)
	if err != nil {
		return nil, err
	}
	match := likeMatcher(e.Pattern, e.Fold)
	return &hitTexts{x: x, to: KindBool, f: func(s string) int64 { return truth(match(s) != e.Not) }}, nil
}

func (b *binder) cast(e *Cast) (node, error) {
	if l, ok := e.X.(*Literal); ok && l.Value.Kind == KindText && e.To != KindText { // told at once, with its place
		v, err := castTo(e.To, l.Value)
		if err != nil {
			return nil, b.errorf(e, "%v", err)
		}
		return &constant{value: v}, nil
	}
	x, err := b.bind(e.X)
	if err != nil {
		return nil, err
	}
	from := x.kind()
	switch {
	case from == e.To:
		return x, nil
	case from == KindNull:
		return nullOf(e.To), nil
	case e.To == KindText:
		return b.bindText(e.X)
	case e.To == KindFloat && (from == KindInt || from == KindBool):
		return asFloat(x), nil
	case e.To == KindInt && from == KindBool:
		return mapped[int64, int64](x, KindInt, nil), nil
	case e.To == KindInt && from == KindFloat:
		return &perValue{x: x, to: KindInt, f: func(v Value) (Value, error) {
			f := math.RoundToEven(v.Float)
			if !(f >= -1<<63 && f < 1<<63) {
				return Value{}, &castError{v.String(), KindInt}
			}
			return Value{Kind: KindInt, Int: int64(f)}, nil
		}}, nil
	case e.To == KindBool && from == KindInt:
		return mapped(x, KindBool, func(v int64) int64 { return truth(v != 0) }), nil
	case from == KindText && e.To != KindBool:
		return &perValue{x: x, to: e.To, f: func(v Value) (Value, error) { return castTo(e.To, v) }}, nil
	}
	return nil, b.errorf(e, "a %s cannot be cast to a %s", from, e.To)
}

var errOverflow = errors.New("a number does not fit 64 bits: compute with doubles, as x::double")

package sql

import (
	"math"
	"strings"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// conjuncts are the conditions that are joined by and.
func conjuncts(e Expr) []Expr {
	if e == nil {
		return nil
	}
	if b, ok := e.(*Binary); ok && b.Op == "and" {
		return append(conjuncts(b.L), conjuncts(b.R)...)
	}
	return []Expr{e}
}

// pruning is what of the conditions the scan of a segment decides itself, by
// passing over row groups.
type pruning struct {
	b    *binder
	scan segment.Query
	find string // an ID that all records have, if not empty
}

// hand gives a condition to the scan. It reports false if the condition is still
// to be looked at for every record, because the scan knows none like it or only
// a weaker one.
func (p *pruning) hand(e Expr) bool {
	switch e := e.(type) {
	case *Binary:
		return p.handComparison(e)
	case *Between:
		if e.Not {
			return false
		}
		low := p.handComparison(&Binary{at(e.At()), ">=", e.X, e.Low})
		return p.handComparison(&Binary{at(e.At()), "<=", e.X, e.High}) && low
	case *Like:
		if ref, ok := e.X.(*Ref); ok && ref.Name == segment.Path.String() && !e.Not && !e.Fold {
			prefix := e.Pattern
			if at := strings.IndexAny(prefix, "%_"); at >= 0 {
				prefix = prefix[:at]
			}
			_, whole := likePrefix(e.Pattern)
			return p.handPrefix(prefix) && whole
		}
	case *Call:
		if e.Name == "starts_with" && len(e.Args) == 2 {
			ref, isRef := e.Args[0].(*Ref)
			prefix, isLiteral := e.Args[1].(*Literal)
			return isRef && isLiteral && ref.Name == segment.Path.String() && p.handPrefix(prefix.Value.Text)
		}
	}
	return false
}

// handPrefix reports whether the prefix is the one of the scan.
func (p *pruning) handPrefix(prefix string) bool {
	if p.scan.PathPrefix == "" {
		p.scan.PathPrefix = prefix
	}
	return prefix != "" && p.scan.PathPrefix == prefix
}

// flipped are comparisons with their sides exchanged.
var flipped = map[string]string{"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (p *pruning) handComparison(e *Binary) bool {
	op := e.Op
	ref, ok := e.L.(*Ref)
	value := e.R
	if !ok {
		if ref, ok = e.R.(*Ref); !ok {
			return false
		}
		value, op = e.L, flipped[e.Op]
	}
	if _, known := flipped[op]; !known { // <>
		return false
	}
	v, ok := fold(p.b, value)
	if !ok || v.Kind == KindNull {
		return false
	}
	switch ref.Name {
	case segment.Start.String():
		return p.handStart(op, v)
	case segment.Duration.String(), segment.Code.String():
		return p.handLeast(ref.Name, op, v)
	}
	return op == "=" && v.Kind == KindText && v.Text != "" && p.handText(ref.Name, v.Text)
}

func (p *pruning) handText(column, text string) bool {
	var to *string
	switch column {
	case segment.DestinationService.String():
		to = &p.scan.Destination
	case segment.SourceService.String():
		to = &p.scan.Source
	case segment.Protocol.String():
		to = &p.scan.Protocol
	case segment.Path.String():
		p.handPrefix(text)
		return false
	case segment.TraceID.String():
		p.find, _ = parseTraceID(text)
		return false
	case segment.RequestID.String():
		if p.find == "" {
			p.find = text
		}
		return false
	default:
		return false
	}
	if *to == "" {
		*to = text
	}
	return *to == text
}

func (p *pruning) handStart(op string, v Value) bool {
	if v.Kind == KindText {
		n, ok := parseTime(v.Text)
		if !ok {
			return false
		}
		v = Value{Kind: KindTime, Int: n}
	}
	if v.Kind != KindTime || v.Int >= math.MaxInt64-1 || v.Int <= math.MinInt64+1 {
		return false
	}
	from := func(n int64) {
		if t := time.Unix(0, n); p.scan.From.IsZero() || t.After(p.scan.From) {
			p.scan.From = t
		}
	}
	to := func(n int64) {
		if t := time.Unix(0, n); p.scan.To.IsZero() || t.Before(p.scan.To) {
			p.scan.To = t
		}
	}
	switch op {
	case ">=":
		from(v.Int)
	case ">":
		from(v.Int + 1)
	case "<":
		to(v.Int)
	case "<=":
		to(v.Int + 1)
	case "=":
		from(v.Int)
		to(v.Int + 1)
	}
	return true
}

// handLeast hands the least duration or status.
func (p *pruning) handLeast(column, op string, v Value) bool {
	least := v.Int
	switch {
	case op == "<" || op == "<=":
		return false
	case v.Kind == KindFloat:
		if math.Abs(v.Float) > 1<<53 || v.Float != v.Float {
			return false
		}
		least = int64(math.Ceil(v.Float))
		if op == ">" && float64(least) == v.Float {
			least++
		}
	case v.Kind != KindInt || v.Int == math.MaxInt64:
		return false
	case op == ">":
		least++
	}
	if column == segment.Duration.String() {
		p.scan.MinDuration = max(p.scan.MinDuration, time.Duration(max(least, 0)))
	} else {
		if least > math.MaxUint32 {
			return false
		}
		p.scan.MinCode = max(p.scan.MinCode, uint32(max(least, 0)))
	}
	return op != "="
}

// fold computes an expression without columns.
func fold(b *binder, e Expr) (Value, bool) {
	if !isConstant(e) {
		return Value{}, false
	}
	folder := &binder{text: b.text, now: b.now, resolve: func(Expr) (node, error) { return nil, nil }}
	n, err := folder.bind(e)
	if err != nil {
		return Value{}, false
	}
	one := &batch{n: 1}
	v := n.eval(one)
	if one.err != nil {
		return Value{}, false
	}
	return v.at(0), true
}

func isConstant(e Expr) bool {
	switch e := e.(type) {
	case *Ref, *Attribute:
		return false
	case *Call:
		if isAggregate(e.Name) {
			return false
		}
	}
	for _, c := range children(e) {
		if !isConstant(c) {
			return false
		}
	}
	return true
}

package sql

import "math"

// arithmetic of numbers, and of moments and intervals.
func (b *binder) arithmetic(e *Binary) (node, error) {
	l, err := b.bind(e.L)
	if err != nil {
		return nil, err
	}
	r, err := b.bind(e.R)
	if err != nil {
		return nil, err
	}
	if l.kind() == KindNull || r.kind() == KindNull {
		k := l.kind()
		if k == KindNull {
			k = r.kind()
		}
		return nullOf(k), nil
	}
	numbers := isNumber(l) && isNumber(r)
	switch {
	case numbers && (e.Op == "/" || l.kind() == KindFloat || r.kind() == KindFloat):
		return &mergeNumbers[float64]{l: asFloat(l), r: asFloat(r), to: KindFloat, f: floatOps[e.Op]}, nil
	case numbers:
		n := &mergeNumbers[int64]{l: l, r: r, to: KindInt, f: intOps[e.Op]}
		if e.Op == "+" || e.Op == "-" || e.Op == "*" {
			n.overflow = errOverflow
		}
		return n, nil
	}
	if to, ok := timeResult(l.kind(), r.kind(), e.Op); ok {
		return &mergeNumbers[int64]{l: l, r: r, to: to, f: intOps[e.Op], overflow: errOverflow}, nil
	}
	return nil, b.errorf(e, "%s of a %s and a %s is not possible", e.Op, l.kind(), r.kind())
}

// timeResult is the kind of moments and intervals added up.
func timeResult(l, r Kind, op string) (Kind, bool) {
	switch {
	case l == KindTime && r == KindInterval && (op == "+" || op == "-"):
		return KindTime, true
	case l == KindInterval && r == KindTime && op == "+":
		return KindTime, true
	case l == KindTime && r == KindTime && op == "-",
		l == KindInterval && r == KindInterval && (op == "+" || op == "-"),
		l == KindInterval && r == KindInt && op == "*",
		l == KindInt && r == KindInterval && op == "*":
		return KindInterval, true
	}
	return KindNull, false
}

func isNumber(n node) bool { return n.kind() == KindInt || n.kind() == KindFloat }

// intOps are not ok where the result does not fit, or is of a division by zero.
var intOps = map[string]func(a, b int64) (int64, bool){
	"+": addInts,
	"-": func(a, b int64) (int64, bool) {
		c := a - b
		return c, b == 0 || (c < a) == (b > 0)
	},
	"*": func(a, b int64) (int64, bool) {
		if a == 0 || b == 0 {
			return 0, true
		}
		c := a * b
		return c, c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
	},
	"//": func(a, b int64) (int64, bool) {
		if b == 0 || b == -1 && a == math.MinInt64 {
			return 0, false
		}
		return a / b, true
	},
	"%": func(a, b int64) (int64, bool) {
		if b == 0 || b == -1 {
			return 0, b != 0
		}
		return a % b, true
	},
}

func addInts(a, b int64) (int64, bool) {
	c := a + b
	return c, b == 0 || (c > a) == (b > 0)
}

// floatOps are null where they divide by zero.
var floatOps = map[string]func(a, b float64) (float64, bool){
	"+":  func(a, b float64) (float64, bool) { return a + b, true },
	"-":  func(a, b float64) (float64, bool) { return a - b, true },
	"*":  func(a, b float64) (float64, bool) { return a * b, true },
	"/":  func(a, b float64) (float64, bool) { return a / b, b != 0 },
	"//": func(a, b float64) (float64, bool) { return math.Trunc(a / b), b != 0 },
	"%":  func(a, b float64) (float64, bool) { return math.Mod(a, b), b != 0 },
}

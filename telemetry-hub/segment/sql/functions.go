package sql

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// call binds a function that is no aggregate.
func (b *binder) call(c *Call) (node, error) {
	if c.Star || c.Distinct || c.Filter != nil {
		return nil, b.errorf(c, "%s is no aggregate: it takes no *, distinct or filter", clip(c.Name))
	}
	f, ok := functions()[c.Name]
	if !ok {
		return nil, &UnsupportedError{posAt(b.text, c.At()), "the function " + clip(c.Name)}
	}
	if len(c.Args) < f.least || len(c.Args) > f.most {
		return nil, b.errorf(c, "%s has %d arguments; write it as %s", c.Name, len(c.Args), f.usage)
	}
	return f.bind(b, c)
}

type function struct {
	least, most int
	usage       string
	bind        func(b *binder, c *Call) (node, error)
}

// functions by name.
func functions() map[string]function {
	return map[string]function{
		"now":         {0, 0, "now()", bindNow},
		"lower":       {1, 1, "lower(text)", textFunction(strings.ToLower)},
		"upper":       {1, 1, "upper(text)", textFunction(strings.ToUpper)},
		"length":      {1, 1, "length(text)", bindLength},
		"starts_with": {2, 2, "starts_with(text, 'prefix')", textTest(strings.HasPrefix)},
		"ends_with":   {2, 2, "ends_with(text, 'suffix')", textTest(strings.HasSuffix)},
		"contains":    {2, 2, "contains(text, 'part')", textTest(strings.Contains)},
		"coalesce":    {1, 64, "coalesce(x, y, …)", bindCoalesce},
		"abs":         {1, 1, "abs(number)", bindAbs},
		"round":       {1, 2, "round(number) or round(number, digits)", bindRound},
		"floor":       {1, 1, "floor(number)", floatFunction(math.Floor)},
		"ceil":        {1, 1, "ceil(number)", floatFunction(math.Ceil)},
		"date_trunc":  {2, 2, "date_trunc('minute', timestamp)", bindDateTrunc},
		"time_bucket": {2, 2, "time_bucket(interval '5 minutes', timestamp)", bindTimeBucket},
	}
}

func bindNow(b *binder, _ *Call) (node, error) {
	return &constant{value: Value{Kind: KindTime, Int: b.now.UnixNano()}}, nil
}

func textFunction(f func(string) string) func(*binder, *Call) (node, error) {
	return func(b *binder, c *Call) (node, error) {
		x, err := b.bindAs(c.Args[0], KindText)
		return &mapTexts{x: x, f: f}, err
	}
}

func bindLength(b *binder, c *Call) (node, error) {
	x, err := b.bindAs(c.Args[0], KindText)
	return &hitTexts{x: x, to: KindInt, f: func(s string) int64 { return int64(utf8.RuneCountInString(s)) }}, err
}

// textTest is a function of a text and a constant one.
func textTest(f func(s, part string) bool) func(*binder, *Call) (node, error) {
	return func(b *binder, c *Call) (node, error) {
		part, ok := c.Args[1].(*Literal)
		if !ok || part.Value.Kind != KindText {
			return nil, &UnsupportedError{posAt(b.text, c.Args[1].At()), "a second argument of " + c.Name + " that is not a text in quotes"}
		}
		x, err := b.bindAs(c.Args[0], KindText)
		return &hitTexts{x: x, to: KindBool, f: func(s string) int64 { return truth(f(s, part.Value.Text)) }}, err
	}
}

func bindCoalesce(b *binder, c *Call) (node, error) {
	out := &coalesce{of: KindNull}
	for _, e := range c.Args {
		n, err := b.bind(e)
		if err != nil {
			return nil, err
		}
		out.list = append(out.list, n)
		switch k := n.kind(); {
		case out.of == KindNull, out.of == KindInt && k == KindFloat:
			out.of = k
		case k != KindNull && k != out.of && !(k == KindInt && out.of == KindFloat):
			return nil, b.errorf(e, "%s is a %s and what stands before a %s; coalesce takes values of one type", clip(e.String()), k, out.of)
		}
	}
	for i, n := range out.list {
		if n.kind() == KindInt && out.of == KindFloat {
			out.list[i] = asFloat(n)
		}
	}
	return out, nil
}

func floatFunction(f func(float64) float64) func(*binder, *Call) (node, error) {
	return func(b *binder, c *Call) (node, error) {
		x, err := b.bindAs(c.Args[0], KindFloat)
		return mapped(x, KindFloat, f), err
	}
}

func bindAbs(b *binder, c *Call) (node, error) {
	x, err := b.bind(c.Args[0])
	if err != nil {
		return nil, err
	}
	if k := x.kind(); k == KindInt || k == KindInterval {
		return mapped(x, k, func(v int64) int64 { return max(v, -v) }), nil
	}
	return floatFunction(math.Abs)(b, c)
}

func bindRound(b *binder, c *Call) (node, error) {
	scale := 1.0
	if len(c.Args) == 2 {
		digits, ok := c.Args[1].(*Literal)
		if !ok || digits.Value.Kind != KindInt || digits.Value.Int < -15 || digits.Value.Int > 15 {
			return nil, b.errorf(c.Args[1], "want the digits of round as a number from -15 to 15")
		}
		scale = math.Pow10(int(digits.Value.Int))
	}
	return floatFunction(func(v float64) float64 { return math.Round(v*scale) / scale })(b, c)
}

// truncUnits are those of date_trunc that have a fixed length.

var truncUnits = map[string]time.Duration{
	"microsecond": time.Microsecond, "millisecond": time.Millisecond, "second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
}

func bindDateTrunc(b *binder, c *Call) (node, error) {
	unit, ok := c.Args[0].(*Literal)
	if !ok || unit.Value.Kind != KindText {
		return nil, b.errorf(c.Args[0], "want the unit of date_trunc in quotes, as 'minute'")
	}
	d, ok := truncUnits[strings.ToLower(unit.Value.Text)]
	if !ok {
		return nil, &UnsupportedError{posAt(b.text, c.Args[0].At()), "date_trunc to " + quote(clip(unit.Value.Text))}
	}
	return bindFloor(b, c.Args[1], int64(d), 0)
}

// bucketOrigin is that of DuckDB's time_bucket for intervals without months:
// Monday, 2000-01-03.
const bucketOrigin = 946_857_600_000_000_000

func bindTimeBucket(b *binder, c *Call) (node, error) {
	width, ok := c.Args[0].(*Literal)
	if !ok || width.Value.Kind != KindInterval || width.Value.Int <= 0 {
		return nil, b.errorf(c.Args[0], "want the width of time_bucket as an interval above zero, as interval '5 minutes'")
	}
	return bindFloor(b, c.Args[1], width.Value.Int, bucketOrigin%width.Value.Int)
}

// bindFloor cuts a moment down to a multiple of width, from an origin on.
func bindFloor(b *binder, e Expr, width, origin int64) (node, error) {
	x, err := b.bindAs(e, KindTime)
	return mapped(x, KindTime, func(v int64) int64 {
		rest := (v - origin) % width
		if rest < 0 {
			rest += width
		}
		return v - rest
	}), err
}

// likeMatcher matches a pattern in which % stands for any text and _ for any
// character.
func likeMatcher(pattern string, fold bool) func(string) bool {
	if fold {
		match := likeMatcher(strings.ToLower(pattern), false)
		return func(s string) bool { return match(strings.ToLower(s)) }
	}
	if prefix, ok := likePrefix(pattern); ok {
		return func(s string) bool { return strings.HasPrefix(s, prefix) }
	}
	p := []rune(pattern)
	if !slices.Contains(p, '%') && !slices.Contains(p, '_') {
		return func(s string) bool { return s == pattern }
	}
	return func(s string) bool { return likeRunes([]rune(s), p) }
}

// likePrefix is the text of a pattern that only asks how something begins.
func likePrefix(pattern string) (string, bool) {
	prefix, ok := strings.CutSuffix(pattern, "%")
	return prefix, ok && !strings.ContainsAny(prefix, "%_")
}

// likeRunes goes back only to the last %, so it takes at most the product of the
// two lengths.
func likeRunes(s, p []rune) bool {
	i, j, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case j < len(p) && p[j] == '%':
			star, mark = j, i
			j++
		case j < len(p) && (p[j] == '_' || p[j] == s[i]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == '%' {
		j++
	}
	return j == len(p)
}

package sql

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expr reads an expression. From the weakest binding to the strongest: or, and,
// not, comparisons, ||, + and -, * / // %, unary -, :: and [].
func (p *parser) expr() Expr {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.peek().from, "expressions are nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	return p.or()
}

func (p *parser) or() Expr {
	l := p.and()
	for p.is("or") {
		l = &Binary{at(p.next().from), "or", l, p.and()}
	}
	return l
}

func (p *parser) and() Expr {
	l := p.not()
	for p.is("and") {
		l = &Binary{at(p.next().from), "and", l, p.not()}
	}
	return l
}

func (p *parser) not() Expr {
	if !p.is("not") {
		return p.comparison()
	}
	from := p.next().from
	if p.depth++; p.depth > maxDepth {
		p.fail(from, "expressions are nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	return &Unary{at(from), "not", p.not()}
}

// comparisons maps the signs to their canonical form.
var comparisons = map[string]string{"=": "=", "==": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

func (p *parser) comparison() Expr {
	l := p.concat()
	for {
		t := p.peek()
		if op, ok := comparisons[t.text]; ok && t.kind == tokenSign {
			p.next()
			l = &Binary{at(t.from), op, l, p.concat()}
			continue
		}
		negated := p.is("not") && slices.Contains([]string{"in", "like", "ilike", "between"}, p.peekAfter().text)
		if negated {
			p.next()
		}
		next := p.predicate(l, negated)
		if next == nil {
			return l
		}
		l = next
	}
}

// predicate reads what can follow an expression by a word; nil if nothing does.
func (p *parser) predicate(l Expr, negated bool) Expr {
	from := at(p.peek().from)
	switch {
	case p.accept("in"):
		return p.in(l, from, negated)
	case p.is("like"), p.is("ilike"):
		fold := p.next().text == "ilike"
		t := p.peek()
		if t.kind != tokenText {
			p.unsupported(t.from, "a pattern that is not a text in quotes")
		}
		p.next()
		return &Like{from, l, t.text, negated, fold}
	case p.accept("between"):
		low := p.concat()
		p.expect("and", " between the two bounds")
		return &Between{from, l, low, p.concat(), negated}
	case p.accept("is"):
		not := p.accept("not")
		if p.is("true") || p.is("false") || p.is("distinct") {
			p.unsupported(p.peek().from, "IS "+strings.ToUpper(p.peek().text))
		}
		p.expect("null", " after is")
		return &IsNull{from, l, not}
	}
	return nil
}

func (p *parser) in(l Expr, from at, negated bool) Expr {
	p.expect("(", " after in")
	if p.is("select") {
		p.unsupported(p.peek().from, "a query in IN")
	}
	e := &In{at: from, X: l, Not: negated}
	for {
		e.List = append(e.List, p.expr())
		if !p.accept(",") {
			break
		}
	}
	p.expect(")", " after the list")
	return e
}

func (p *parser) concat() Expr { return p.chain(p.sum, "||") }

func (p *parser) sum() Expr { return p.chain(p.product, "+", "-") }

func (p *parser) product() Expr { return p.chain(p.unary, "*", "/", "//", "%") }

// chain reads operators that bind to the left.
func (p *parser) chain(operand func() Expr, ops ...string) Expr {
	l := operand()
	for p.peek().kind == tokenSign && slices.Contains(ops, p.peek().text) {
		t := p.next()
		l = &Binary{at(t.from), t.text, l, operand()}
	}
	return l
}

func (p *parser) unary() Expr {
	t := p.peek()
	if !p.accept("-") && !p.accept("+") {
		return p.postfix()
	}
	if p.depth++; p.depth > maxDepth {
		p.fail(t.from, "expressions are nested more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	x := p.unary()
	if t.text == "+" {
		return x
	}
	if l, ok := x.(*Literal); ok && l.Value.Kind != KindText && l.Value.Kind != KindBool && l.Value.Kind != KindNull && l.Value.Int != math.MinInt64 {
		v := l.Value
		v.Int, v.Float = -v.Int, -v.Float
		return &Literal{at(t.from), v}
	}
	return &Unary{at(t.from), "-", x}
}

func (p *parser) postfix() Expr {
	x := p.primary()
	for {
		t := p.peek()
		switch {
		case p.accept("::"):
			x = &Cast{at(t.from), x, p.typeName()}
		case p.is("["):
			x = p.subscript(x)
		default:
			return x
		}
	}
}

// subscript reads the key of an attribute.
func (p *parser) subscript(x Expr) Expr {
	from := p.next().from
	key := p.peek()
	if ref, ok := x.(*Ref); !ok || ref.Name != "attributes" || key.kind != tokenText {
		p.unsupported(from, "[] of anything but attributes['key']")
		return x
	}
	p.next()
	p.expect("]", " after the key")
	return &Attribute{at(x.At()), key.text}
}

var typeNames = map[string]Kind{
	"bool": KindBool, "boolean": KindBool, "bigint": KindInt, "int": KindInt, "integer": KindInt, "int8": KindInt, "int64": KindInt, "long": KindInt,
	"double": KindFloat, "float8": KindFloat, "varchar": KindText, "text": KindText, "string": KindText,
	"timestamp": KindTime, "timestamptz": KindTime,
}

func (p *parser) typeName() Kind {
	t := p.peek()
	k, ok := typeNames[t.text]
	if t.kind != tokenWord || !ok {
		if t.kind == tokenWord {
			p.unsupported(t.from, "the type "+t.text)
		} else {
			p.unexpected("want a type")
		}
		return KindNull
	}
	p.next()
	if p.is("(") || p.is("[") {
		p.unsupported(p.peek().from, "a type with parameters")
	}
	return k
}

func (p *parser) primary() Expr {
	t := p.peek()
	switch t.kind {
	case tokenNumber:
		p.next()
		return p.number(t)
	case tokenText:
		p.next()
		return &Literal{at(t.from), Value{Kind: KindText, Text: t.text}}
	case tokenQuoted:
		p.next()
		return &Ref{at(t.from), t.text}
	case tokenWord:
		return p.word()
	case tokenSign:
		if p.accept("(") {
			if p.is("select") {
				p.unsupported(p.peek().from, "a query in an expression")
			}
			e := p.expr()
			p.expect(")", "")
			return e
		}
	}
	p.unexpected("want a value, a column or a function")
	return &Literal{at: at(t.from)}
}

func (p *parser) number(t token) Expr {
	if n, err := strconv.ParseInt(t.text, 10, 64); err == nil {
		return &Literal{at(t.from), Value{Kind: KindInt, Int: n}}
	}
	f, err := strconv.ParseFloat(t.text, 64)
	if err != nil {
		p.fail(t.from, "%s is no number that fits 64 bits", clip(t.text))
	}
	return &Literal{at(t.from), Value{Kind: KindFloat, Float: f}}
}

func (p *parser) word() Expr {
	t := p.next()
	from := at(t.from)
	switch t.text {
	case "null":
		return &Literal{at: from}
	case "true", "false":
		return &Literal{from, Value{Kind: KindBool, Int: truth(t.text == "true")}}
	case "interval":
		return p.interval(t)
	case "timestamp", "timestamptz":
		if text := p.peek(); text.kind == tokenText {
			p.next()
			n, ok := parseTime(text.text)
			if !ok {
				p.fail(text.from, "%s is no timestamp: write one as '2026-01-31 12:00:00' or '2026-01-31T12:00:00Z'", clip(text.text))
			}
			return &Literal{from, Value{Kind: KindTime, Int: n}}
		}
	case "cast", "try_cast":
		if t.text == "cast" && p.accept("(") {
			x := p.expr()
			p.expect("as", " and a type")
			k := p.typeName()
			p.expect(")", "")
			return &Cast{from, x, k}
		}
	case "current_timestamp":
		return &Call{at: from, Name: "now"}
	}
	if p.is("(") && !slices.Contains([]string{"exists", "case", "any", "all", "select"}, t.text) {
		return p.call(t)
	}
	if slices.Contains(foreign, t.text) || slices.Contains([]string{"where", "group", "order", "having", "limit", "and", "or", "in", "like", "between", "is", "as", "by"}, t.text) {
		p.at--
		p.unexpected("want a value, a column or a function")
	}
	if p.is(".") {
		p.unsupported(t.from, "a name with a dot")
	}
	return &Ref{from, t.text}
}

func (p *parser) call(t token) Expr {
	p.next()
	c := &Call{at: at(t.from), Name: t.text}
	switch {
	case p.accept("*"):
		c.Star = true
	case p.is(")"):
	default:
		c.Distinct = p.accept("distinct")
		for {
			c.Args = append(c.Args, p.expr())
			if !p.accept(",") {
				break
			}
		}
	}
	if p.is("order") {
		p.unsupported(p.peek().from, "ORDER BY in an aggregate")
	}
	p.expect(")", " after the arguments")
	if p.is("filter") {
		p.next()
		p.expect("(", " after filter")
		p.expect("where", " after filter (")
		c.Filter = p.expr()
		p.expect(")", "")
	}
	if p.is("over") || p.is("within") {
		p.unsupported(p.peek().from, strings.ToUpper(p.peek().text))
	}
	return c
}

// units of an interval. Months and years are of no fixed length.
var units = map[string]time.Duration{
	"microsecond": time.Microsecond, "us": time.Microsecond, "millisecond": time.Millisecond, "ms": time.Millisecond,
	"second": time.Second, "sec": time.Second, "s": time.Second, "minute": time.Minute, "min": time.Minute, "m": time.Minute,
	"hour": time.Hour, "h": time.Hour, "day": 24 * time.Hour, "d": 24 * time.Hour, "week": 7 * 24 * time.Hour, "nanosecond": 1, "ns": 1,
}

// interval reads what follows that word: '1 hour 30 minutes', or 15 minutes.
func (p *parser) interval(t token) Expr {
	value := p.peek()
	var fields []string
	switch value.kind {
	case tokenText:
		p.next()
		fields = strings.Fields(value.text)
		if u := p.peek(); len(fields) == 1 && u.kind == tokenWord { // interval '15' minutes
			fields = append(fields, p.next().text)
		}
	case tokenNumber:
		p.next()
		fields = []string{value.text, p.name()}
	default:
		p.unexpected("want an interval as interval '15 minutes'")
		return &Literal{at: at(t.from)}
	}
	n, ok := sumUnits(fields)
	if !ok {
		p.fail(value.from, "%s is no interval: write one as interval '15 minutes', with seconds, minutes, hours, days or weeks", clip(strings.Join(fields, " ")))
	}
	return &Literal{at(t.from), Value{Kind: KindInterval, Int: n}}
}

// sumUnits adds up numbers and their units.
func sumUnits(fields []string) (sum int64, ok bool) {
	for i := 0; i+1 < len(fields); i += 2 {
		word := strings.ToLower(fields[i+1])
		unit, known := units[word]
		if !known {
			unit, known = units[strings.TrimSuffix(word, "s")]
		}
		n, err := strconv.ParseFloat(fields[i], 64)
		part := n * float64(unit)
		if !known || err != nil || math.Abs(part) > 1<<61 || part != part {
			return 0, false
		}
		if sum += int64(part); sum > 1<<61 || sum < -1<<61 {
			return 0, false
		}
	}
	return sum, len(fields) > 0 && len(fields)%2 == 0
}

package sql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxText and maxDepth bound what the parser works on.
	maxText  = 64 << 10
	maxDepth = 100
)

// Parse reads a query. Its error is an *Error, or an *UnsupportedError for SQL
// outside of the subset. Names of columns are not looked at yet.
func Parse(text string) (*Query, error) {
	if len(text) > maxText {
		return nil, &Error{Pos{1, 1}, fmt.Sprintf("the query has %d bytes, more than %d: make it shorter", len(text), maxText)}
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, tokens: tokens}
	q := p.query()
	if p.err != nil {
		return nil, p.err
	}
	return q, nil
}

// parser descends from the query to its parts. After the first error it goes on
// at the end, where nothing matches.
type parser struct {
	text   string
	tokens []token
	at     int
	depth  int
	err    error
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) peekAfter() token { return p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

func (p *parser) stop(err error) {
	if p.err == nil {
		p.err = err
	}
	p.at = len(p.tokens) - 1
}

func (p *parser) fail(offset int, format string, args ...any) {
	p.stop(&Error{posAt(p.text, offset), fmt.Sprintf(format, args...)})
}

func (p *parser) unsupported(offset int, what string) {
	p.stop(&UnsupportedError{posAt(p.text, offset), what})
}

// is reports that the next token is this word or sign.
func (p *parser) is(text string) bool {
	t := p.peek()
	return (t.kind == tokenWord || t.kind == tokenSign) && t.text == text
}

// accept takes the next token if it is this word or sign.
func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text, why string) {
	if !p.accept(text) {
		p.unexpected("want " + text + why)
	}
}

// foreign are words of SQL that begin what the subset lacks.
var foreign = []string{
	"all", "any", "array", "asof", "case", "copy", "create", "cross", "delete", "describe", "distinct", "except", "exists", "explain", "export",
	"extract", "from", "full", "grouping", "inner", "insert", "intersect", "join", "lateral", "left", "natural", "over", "pivot", "pragma", "qualify",
	"right", "rollup", "cube", "sample", "select", "set", "similar", "summarize", "tablesample", "union", "unpivot", "update", "using", "values",
	"window", "with", "within", "glob", "collate", "escape", "at", "show", "regexp", "struct", "exclude", "replace", "positional", "anti", "semi",
}

// unexpected says that the next token is not what can stand here.
func (p *parser) unexpected(want string) {
	t := p.peek()
	switch {
	case t.kind == tokenEnd:
		p.fail(t.from, "the query ends here: %s", want)
	case t.kind == tokenWord && slices.Contains(foreign, t.text):
		p.unsupported(t.from, strings.ToUpper(t.text))
	default:
		p.fail(t.from, "%s, not %s", want, clip(p.text[t.from:t.to]))
	}
}

func (p *parser) query() *Query {
	q := &Query{Text: p.text, Limit: -1}
	p.expect("select", " at the beginning")
	if p.accept("*") {
		q.Star = true
		if p.is(",") {
			p.unsupported(p.peek().from, "a column beside *")
		}
	} else {
		q.Select = p.items()
	}
	p.expect("from", " records")
	p.table()
	if p.accept("where") {
		q.Where = p.expr()
	}
	p.groupBy(q)
	if p.accept("having") {
		q.Having = p.expr()
	}
	if p.accept("order") {
		p.expect("by", "")
		q.OrderBy = p.orders()
	}
	p.limits(q)
	p.accept(";")
	if p.peek().kind != tokenEnd {
		p.unexpected("want where, group by, having, order by, limit or the end")
	}
	return q
}

// table reads the one table that there is.
func (p *parser) table() {
	t := p.peek()
	switch {
	case t.kind == tokenSign && t.text == "(":
		p.unsupported(t.from, "a query in FROM")
	case t.kind != tokenWord && t.kind != tokenQuoted, t.text != "records" && slices.Contains(foreign, t.text):
		p.unexpected("want the table records")
	case p.peekAfter().text == "(":
		p.unsupported(t.from, "the table function "+clip(t.text))
	case t.text != "records":
		p.fail(t.from, "there is no table %s: the records are in the table records", clip(t.text))
	default:
		p.next()
	}
	if p.is(",") {
		p.unsupported(p.peek().from, "a second table")
	}
	if p.is("as") {
		p.unsupported(p.peek().from, "another name for the table")
	}
}

func (p *parser) items() (list []Item) {
	for {
		from := p.peek().from
		e := p.expr()
		to := p.tokens[max(p.at-1, 0)].to
		item := Item{Expr: e}
		if p.accept("as") {
			item.Name, item.as = p.name(), true
		} else if t := p.peek(); t.kind == tokenQuoted || t.kind == tokenWord && t.text != "from" && !slices.Contains(foreign, t.text) {
			item.Name, item.as = p.name(), true
		} else if p.err == nil {
			item.Name = p.text[from:to]
		}
		list = append(list, item)
		if !p.accept(",") {
			return list
		}
	}
}

func (p *parser) name() string {
	t := p.peek()
	if t.kind != tokenWord && t.kind != tokenQuoted {
		p.unexpected("want a name")
		return ""
	}
	p.next()
	return t.text
}

func (p *parser) groupBy(q *Query) {
	if !p.accept("group") {
		return
	}
	p.expect("by", "")
	if p.is("all") {
		p.next()
		q.All = true
		return
	}
	for {
		q.GroupBy = append(q.GroupBy, p.expr())
		if !p.accept(",") {
			return
		}
	}
}

func (p *parser) orders() (list []Order) {
	for {
		if p.is("all") {
			p.unsupported(p.peek().from, "ORDER BY ALL")
		}
		o := Order{Expr: p.expr()}
		if p.accept("desc") {
			o.Descending = true
		} else {
			p.accept("asc")
		}
		if p.accept("nulls") {
			if p.accept("first") {
				o.NullsFirst = true
			} else {
				p.expect("last", " or first")
			}
		}
		list = append(list, o)
		if !p.accept(",") {
			return list
		}
	}
}

func (p *parser) limits(q *Query) {
	for {
		switch {
		case p.is("limit") && q.Limit < 0:
			p.next()
			q.Limit = p.count("LIMIT")
		case p.is("offset") && q.Offset == 0:
			p.next()
			q.Offset = p.count("OFFSET")
		default:
			return
		}
	}
}

func (p *parser) count(of string) int64 {
	t := p.peek()
	n, err := strconv.ParseInt(t.text, 10, 64)
	if t.kind != tokenNumber || err != nil {
		p.unexpected("want a whole number of rows after " + of)
		return 0
	}
	p.next()
	return n
}

package sql

import (
	"fmt"
	"strings"
)

// Query is a parsed SELECT over the table records.
type Query struct {
	Text    string
	Select  []Item
	Star    bool // select *, Select is empty
	Where   Expr // nil if there is none
	GroupBy []Expr
	All     bool // group by all
	Having  Expr
	OrderBy []Order
	Limit   int64 // -1 for none
	Offset  int64
}

// Item is one column of the answer.
type Item struct {
	Expr Expr
	Name string // its alias, or its text
	as   bool   // the alias was given
}

// Order is one term of ORDER BY.
type Order struct {
	Expr       Expr
	Descending bool
	NullsFirst bool
}

// Expr is an expression. String is its canonical form: two that are equal have
// the same.
type Expr interface {
	fmt.Stringer
	At() int // byte offset in the text
}

type at int

// At implements Expr.
func (a at) At() int { return int(a) }

// The expressions.
type (
	// Literal is a constant.
	Literal struct {
		at
		Value Value
	}
	// Ref names a column or an alias.
	Ref struct {
		at
		Name string
	}
	// Attribute is attributes['key'].
	Attribute struct {
		at
		Key string
	}
	// Unary is - or not.
	Unary struct {
		at
		Op string
		X  Expr
	}
	// Binary is an operator of arithmetic, comparison or logic.
	Binary struct {
		at
		Op   string
		L, R Expr
	}
	// In is x [not] in (list).
	In struct {
		at
		X    Expr
		List []Expr
		Not  bool
	}
	// Like is x [not] like or ilike a pattern, which is constant.
	Like struct {
		at
		X       Expr
		Pattern string
		Not     bool
		Fold    bool // ilike
	}
	// IsNull is x is [not] null.
	IsNull struct {
		at
		X   Expr
		Not bool
	}
	// Between is x [not] between low and high, bounds included.
	Between struct {
		at
		X, Low, High Expr
		Not          bool
	}
	// Call is a function or an aggregate.
	Call struct {
		at
		Name     string
		Args     []Expr
		Star     bool // count(*)
		Distinct bool
		Filter   Expr // nil if there is none
	}
	// Cast is cast(x as type) and x::type.
	Cast struct {
		at
		X  Expr
		To Kind
	}
)

func (e *Literal) String() string {
	switch e.Value.Kind {
	case KindText:
		return quote(e.Value.Text)
	default:
		return e.Value.Kind.String() + " " + e.Value.String()
	}
}
func (e *Ref) String() string       { return e.Name }
func (e *Attribute) String() string { return "attributes[" + quote(e.Key) + "]" }
func (e *Unary) String() string     { return "(" + e.Op + " " + e.X.String() + ")" }
func (e *Binary) String() string    { return "(" + e.L.String() + " " + e.Op + " " + e.R.String() + ")" }
func (e *In) String() string {
	return "(" + e.X.String() + not(e.Not) + " in (" + texts(e.List) + "))"
}
func (e *Like) String() string {
	return fmt.Sprintf("(%s%s like%t %s)", e.X, not(e.Not), e.Fold, quote(e.Pattern))
}
func (e *IsNull) String() string { return "(" + e.X.String() + " is" + not(e.Not) + " null)" }
func (e *Between) String() string {
	return fmt.Sprintf("(%s%s between %s and %s)", e.X, not(e.Not), e.Low, e.High)
}
func (e *Call) String() string {
	args := texts(e.Args)
	if e.Star {
		args = "*"
	}
	if e.Distinct {
		args = "distinct " + args
	}
	if e.Filter != nil {
		args += ") filter (" + e.Filter.String()
	}
	return e.Name + "(" + args + ")"
}
func (e *Cast) String() string { return "cast(" + e.X.String() + " as " + e.To.String() + ")" }

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func not(n bool) string {
	if n {
		return " not"
	}
	return ""
}

func texts(list []Expr) string {
	var parts []string
	for _, e := range list {
		parts = append(parts, e.String())
	}
	return strings.Join(parts, ", ")
}

// children of an expression, in the order of the text.
func children(e Expr) []Expr {
	switch e := e.(type) {
	case *Unary:
		return []Expr{e.X}
	case *Binary:
		return []Expr{e.L, e.R}
	case *In:
		return append([]Expr{e.X}, e.List...)
	case *Like:
		return []Expr{e.X}
	case *IsNull:
		return []Expr{e.X}
	case *Between:
		return []Expr{e.X, e.Low, e.High}
	case *Call:
		if e.Filter != nil {
			return append(append([]Expr{}, e.Args...), e.Filter)
		}
		return e.Args
	case *Cast:
		return []Expr{e.X}
	}
	return nil
}

// aggregates reports that an expression has an aggregate in it.
func aggregates(e Expr) bool {
	if c, ok := e.(*Call); ok && isAggregate(c.Name) {
		return true
	}
	for _, c := range children(e) {
		if aggregates(c) {
			return true
		}
	}
	return false
}

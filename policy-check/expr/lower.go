package expr

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// errNoHeader is the closures' "no such key". It carries no name because it is
// counted, never printed, and must not allocate.
var errNoHeader = errors.New("no such header")

type (
	boolNode func(Source) (bool, error)
	textNode func(Source) (string, error)
)

// lowerer turns a checked tree into Go closures. Almost every policy is made of
// the forms below, and a closure is ten times faster than an interpreted tree
// and allocates nothing. A form that is missing here returns nil and cel-go
// evaluates the whole expression: it is also the oracle in the tests.
type lowerer struct {
	names map[string]Attribute
	refs  map[int64]*ast.ReferenceInfo
}

func newLowerer(a *ast.AST, names map[string]Attribute) lowerer {
	return lowerer{names: names, refs: a.ReferenceMap()}
}

// bool lowers a condition, or returns nil.
func (l lowerer) bool(e ast.Expr) boolNode {
	switch e.Kind() {
	case ast.LiteralKind:
		if v, ok := e.AsLiteral().(types.Bool); ok {
			return func(Source) (bool, error) { return bool(v), nil }
		}
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() && l.name(s.Operand()) == headers {
			return hasHeader(s.FieldName())
		}
	case ast.CallKind:
		return l.call(e.AsCall())
	}
	return nil
}

func (l lowerer) call(c ast.CallExpr) boolNode {
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalAnd:
		return l.logical(args, false)
	case operators.LogicalOr:
		return l.logical(args, true)
	case operators.LogicalNot:
		if x := l.bool(args[0]); x != nil {
			return func(s Source) (bool, error) { v, err := x(s); return !v && err == nil, err }
		}
	case operators.Equals:
		return l.equal(args[0], args[1], true)
	case operators.NotEquals:
		return l.equal(args[0], args[1], false)
	case operators.In:
		return l.in(args[0], args[1])
	case overloads.StartsWith:
		return l.compare(c, strings.HasPrefix)
	case overloads.EndsWith:
		return l.compare(c, strings.HasSuffix)
	case overloads.Contains:
		return l.compare(c, strings.Contains)
	case overloads.Matches:
		return l.matches(c)
	}
	return nil
}

// logical is CEL's && (decisive false) and || (decisive true): a decisive side
// settles the answer even when the other side is an error.
func (l lowerer) logical(args []ast.Expr, decisive bool) boolNode {
	nodes := make([]boolNode, len(args))
	for i, a := range args {
		if nodes[i] = l.bool(a); nodes[i] == nil {
			return nil
		}
	}
	return func(s Source) (bool, error) {
		var first error
		for _, n := range nodes {
			v, err := n(s)
			if err == nil && v == decisive {
				return decisive, nil
			}
			if err != nil && first == nil {
				first = err
			}
		}
		return !decisive && first == nil, first
	}
}

func (l lowerer) equal(a, b ast.Expr, want bool) boolNode {
	if x, y := l.text(a), l.text(b); x != nil && y != nil {
		return func(s Source) (bool, error) {
			v, err := x(s)
			if err != nil {
				return false, err
			}
			w, err := y(s)
			return err == nil && (v == w) == want, err
		}
	}
	if x, y := l.bool(a), l.bool(b); x != nil && y != nil {
		return func(s Source) (bool, error) {
			v, err := x(s)
			if err != nil {
				return false, err
			}
			w, err := y(s)
			return err == nil && (v == w) == want, err
		}
	}
	return nil
}

func (l lowerer) in(item, set ast.Expr) boolNode {
	if l.name(set) == headers {
		if name, ok := literal(item); ok {
			return hasHeader(name)
		}
		return nil
	}
	x := l.text(item)
	if x == nil || set.Kind() != ast.ListKind {
		return nil
	}
	values := make([]string, 0, set.AsList().Size())
	for _, e := range set.AsList().Elements() {
		v, ok := literal(e)
		if !ok {
			return nil
		}
		values = append(values, v)
	}
	return func(s Source) (bool, error) {
		v, err := x(s)
		return err == nil && slices.Contains(values, v), err
	}
}

func (l lowerer) compare(c ast.CallExpr, f func(s, part string) bool) boolNode {
	if !c.IsMemberFunction() {
		return nil
	}
	x, part := l.text(c.Target()), l.text(c.Args()[0])
	if x == nil || part == nil {
		return nil
	}
	return func(s Source) (bool, error) {
		v, err := x(s)
		if err != nil {
			return false, err
		}
		w, err := part(s)
		return err == nil && f(v, w), err
	}
}

func (l lowerer) matches(c ast.CallExpr) boolNode {
	if !c.IsMemberFunction() {
		return nil
	}
	pattern, ok := literal(c.Args()[0])
	x := l.text(c.Target())
	if !ok || x == nil {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	return func(s Source) (bool, error) {
		v, err := x(s)
		return err == nil && re.MatchString(v), err
	}
}

// text lowers a string expression, or returns nil.
func (l lowerer) text(e ast.Expr) textNode {
	if v, ok := literal(e); ok {
		return func(Source) (string, error) { return v, nil }
	}
	if a, ok := l.names[l.name(e)]; ok {
		return func(s Source) (string, error) { return s.Attribute(a), nil }
	}
	switch e.Kind() {
	case ast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() && l.name(s.Operand()) == headers {
			return header(s.FieldName())
		}
	case ast.CallKind:
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case operators.Index:
			if name, ok := literal(args[1]); ok && l.name(args[0]) == headers {
				return header(name)
			}
		case operators.Add:
			return l.concatenate(args[0], args[1])
		case operators.Conditional:
			return l.conditional(args)
		}
	}
	return nil
}

func (l lowerer) concatenate(a, b ast.Expr) textNode {
	x, y := l.text(a), l.text(b)
	if x == nil || y == nil {
		return nil
	}
	return func(s Source) (string, error) {
		v, err := x(s)
		if err != nil {
			return "", err
		}
		w, err := y(s)
		return v + w, err
	}
}

func (l lowerer) conditional(args []ast.Expr) textNode {
	condition, yes, no := l.bool(args[0]), l.text(args[1]), l.text(args[2])
	if condition == nil || yes == nil || no == nil {
		return nil
	}
	return func(s Source) (string, error) {
		v, err := condition(s)
		if err != nil {
			return "", err
		}
		if v {
			return yes(s)
		}
		return no(s)
	}
}

// name is the attribute that e stands for, empty if it is something else.
func (l lowerer) name(e ast.Expr) string {
	if e.Kind() == ast.IdentKind {
		return e.AsIdent()
	}
	if ref, ok := l.refs[e.ID()]; ok && e.Kind() == ast.SelectKind {
		return ref.Name
	}
	return ""
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	v, ok := e.AsLiteral().(types.String)
	return string(v), ok
}

func header(name string) textNode {
	return func(s Source) (string, error) {
		if v := s.Header(name); v != "" {
			return v, nil
		}
		return "", errNoHeader
	}
}

func hasHeader(name string) boolNode {
	return func(s Source) (bool, error) { return s.Header(name) != "", nil }
}

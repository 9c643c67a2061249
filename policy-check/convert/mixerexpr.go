package convert

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// mixerAttributes are Mixer's attributes under Envoy's names.
var mixerAttributes = map[string]string{
	"request.method": "request.method", "request.path": "request.path", "request.url_path": "request.url_path",
	"request.host": "request.host", "request.scheme": "request.scheme", "request.useragent": "request.useragent", "request.id": "request.id",
	"source.ip": "source.address", "source.namespace": "source.namespace", "source.principal": "source.principal", "source.user": "source.principal",
	"source.workload.name": "source.workload", "source.workload.namespace": "source.namespace",
	"destination.ip": "destination.address", "destination.namespace": "destination.namespace", "destination.principal": "destination.principal",
	"destination.workload.name": "destination.workload", "destination.workload.namespace": "destination.namespace",
	"destination.service.name": "destination.service", "destination.service.namespace": "destination.namespace",
}

// mixerLabels are the labels that services and versions are known by.
var mixerLabels = map[string]string{"app": "service", "version": "version"}

// mixerExpression translates an expression of Mixer, which has Go's syntax. needs
// are headers that must be present for it to have a value.
func mixerExpression(text string) (cel string, needs []string, err error) {
	e, err := parser.ParseExpr(text)
	if err != nil {
		return "", nil, fmt.Errorf("%q is no expression of Mixer", text)
	}
	var t mixerText
	cel, err = t.expr(e)
	return cel, t.needs, err
}

// mixerCondition is mixerExpression for what is true or false. As in Mixer it does
// not hold where a header that it reads is missing.
func mixerCondition(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	cel, needs, err := mixerExpression(text)
	return and(append(needs, cel)...), err
}

type mixerText struct{ needs []string }

func (t *mixerText) expr(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		in, err := t.expr(e.X)
		return "(" + in + ")", err
	case *ast.BasicLit:
		return literal(e)
	case *ast.Ident, *ast.SelectorExpr:
		return attribute(e)
	case *ast.IndexExpr:
		cel, present, err := index(e)
		if present != "" && !slices.Contains(t.needs, present) {
			t.needs = append(t.needs, present)
		}
		return cel, err
	case *ast.UnaryExpr:
		in, err := t.expr(e.X)
		if e.Op != token.NOT {
			err = fmt.Errorf("operator %s", e.Op)
		}
		return "!" + in, err
	case *ast.BinaryExpr:
		return t.binary(e)
	case *ast.CallExpr:
		return t.call(e)
	}
	return "", fmt.Errorf("an expression of this form")
}

func literal(e *ast.BasicLit) (string, error) {
	switch e.Kind {
	case token.STRING:
		s, err := strconv.Unquote(e.Value)
		return quote(s), err
	case token.INT:
		return e.Value, nil
	}
	return "", fmt.Errorf("literal %s", e.Value)
}

func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return dotted(e.X) + "." + e.Sel.Name
	}
	return ""
}

func attribute(e ast.Expr) (string, error) {
	name := dotted(e)
	if name == "true" || name == "false" {
		return name, nil
	}
	if cel, ok := mixerAttributes[name]; ok {
		return cel, nil
	}
	return "", fmt.Errorf("attribute %s", name)
}

// index is a look-up in one of the maps of attributes.
func index(e *ast.IndexExpr) (cel, present string, err error) {
	of := dotted(e.X)
	lit, ok := e.Index.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", "", fmt.Errorf("an index of %s that is no text", of)
	}
	name, err := strconv.Unquote(lit.Value)
	if err != nil {
		return "", "", err
	}
	if of == "request.headers" {
		cel, present = header(name)
		return cel, present, nil
	}
	side, labels := strings.CutSuffix(of, ".labels")
	if field, ok := mixerLabels[name]; ok && labels && (side == "source" || side == "destination") {
		return side + "." + field, "", nil
	}
	return "", "", fmt.Errorf("attribute %s[%q]", of, name)
}

var mixerOperators = map[token.Token]string{token.LAND: " && ", token.LOR: " || ", token.EQL: " == ", token.NEQ: " != ", token.ADD: " + "}

func (t *mixerText) binary(e *ast.BinaryExpr) (string, error) {
	if e.Op == token.OR {
		return t.fallback(e)
	}
	op, ok := mixerOperators[e.Op]
	if !ok {
		return "", fmt.Errorf("operator %s", e.Op)
	}
	x, err := t.expr(e.X)
	if err != nil {
		return "", err
	}
	y, err := t.expr(e.Y)
	return x + op + y, err
}

// fallback is a | b | c: the first that has a value.
func (t *mixerText) fallback(e *ast.BinaryExpr) (string, error) {
	outer := t.needs
	defer func() { t.needs = outer }()
	var texts, there []string
	for _, alternative := range alternatives(e) {
		t.needs = nil
		cel, err := t.expr(alternative)
		if err != nil {
			return "", err
		}
		if slices.Contains(texts, cel) { // two attributes of Mixer are one here
			continue
		}
		needs := t.needs
		if len(needs) == 0 {
			needs = []string{cel + ` != ""`}
		}
		texts, there = append(texts, cel), append(there, and(needs...))
	}
	last := len(texts) - 1
	out := texts[last]
	for i := last - 1; i >= 0; i-- {
		out = "(" + there[i] + " ? " + texts[i] + " : " + out + ")"
	}
	return out, nil
}

// alternatives are the operands of a | b | c.
func alternatives(e ast.Expr) []ast.Expr {
	if b, ok := e.(*ast.BinaryExpr); ok && b.Op == token.OR {
		return append(alternatives(b.X), alternatives(b.Y)...)
	}
	return []ast.Expr{e}
}

func (t *mixerText) call(e *ast.CallExpr) (string, error) {
	if f, ok := e.Fun.(*ast.SelectorExpr); ok && len(e.Args) == 1 {
		return t.method(f, e.Args[0])
	}
	name := dotted(e.Fun)
	if name == "conditional" && len(e.Args) == 3 {
		var parts [3]string
		for i, a := range e.Args {
			var err error
			if parts[i], err = t.expr(a); err != nil {
				return "", err
			}
		}
		return "(" + parts[0] + " ? " + parts[1] + " : " + parts[2] + ")", nil
	}
	if name != "match" || len(e.Args) != 2 {
		return "", fmt.Errorf("function %s", name)
	}
	x, err := t.expr(e.Args[0])
	if err != nil {
		return "", err
	}
	lit, ok := e.Args[1].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", fmt.Errorf("a pattern of match that is no literal")
	}
	pattern, err := strconv.Unquote(lit.Value)
	return glob(x, pattern), err
}

// method is x.startsWith(y) and the like; of matches the receiver is the pattern.
func (t *mixerText) method(f *ast.SelectorExpr, arg ast.Expr) (string, error) {
	x, err := t.expr(f.X)
	if err != nil {
		return "", err
	}
	y, err := t.expr(arg)
	switch f.Sel.Name {
	case "startsWith", "endsWith":
		return x + "." + f.Sel.Name + "(" + y + ")", err
	case "matches":
		return y + ".matches(" + x + ")", err
	}
	return "", fmt.Errorf("function %s", f.Sel.Name)
}

// glob is a text with one * at an end.
func glob(x, pattern string) string {
	if p, ok := strings.CutSuffix(pattern, "*"); ok {
		return x + ".startsWith(" + quote(p) + ")"
	}
	if p, ok := strings.CutPrefix(pattern, "*"); ok {
		return x + ".endsWith(" + quote(p) + ")"
	}
	return x + " == " + quote(pattern)
}

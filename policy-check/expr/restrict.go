package expr

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// restrict refuses what type-checks but can't work or must not be run against
// a stranger's request.
func restrict(a *ast.AST) []Problem {
	var out []Problem
	at := func(e ast.Expr, reason string) {
		p := Problem{Line: 1, Column: 1, Reason: reason}
		if loc := a.SourceInfo().GetStartLocation(e.ID()); loc.Line() >= 1 {
			p.Line, p.Column = loc.Line(), loc.Column()+1
		}
		if e.Kind() == ast.IdentKind {
			// A dotted name is located at its last dot.
			p.Column = max(p.Column-max(strings.LastIndex(e.AsIdent(), "."), 0), 1)
		}
		out = append(out, p)
	}
	all := ast.MatchDescendants(ast.NavigateAST(a), ast.AllMatcher())
	for _, e := range all {
		switch {
		case isHeaders(e, a):
			if where, reason := headerUse(e); reason != "" {
				at(where, reason)
			}
		case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == "matches":
			args := e.AsCall().Args()
			if args[len(args)-1].Kind() != ast.LiteralKind {
				// Else a caller could choose the pattern, compiled per request.
				at(args[len(args)-1], "the pattern of matches must be a literal")
			}
		}
	}
	return out
}

// isHeaders tells whether e is the headers attribute. In a checked tree it is
// an identifier, or a selection whose reference has the whole name.
func isHeaders(e ast.Expr, a *ast.AST) bool {
	if e.Kind() == ast.IdentKind && e.AsIdent() == headers {
		return true
	}
	ref, ok := a.ReferenceMap()[e.ID()]
	return ok && ref.Name == headers
}

// headerUse says what is wrong with the place where headers stand, if anything.
// They can be looked up by name only: the sidecar does not build a map for a
// request.
func headerUse(e ast.NavigableExpr) (where ast.Expr, reason string) {
	const only = `request.headers can only be looked up by name, as in request.headers["x-user"] or "x-user" in request.headers`
	parent, ok := e.Parent()
	if !ok {
		return e, only
	}
	switch parent.Kind() {
	case ast.SelectKind:
		return e, lowerCase(parent.AsSelect().FieldName())
	case ast.CallKind:
		args := parent.AsCall().Args()
		key := ast.Expr(nil)
		switch parent.AsCall().FunctionName() {
		case operators.Index:
			key = args[1]
		case operators.In:
			key = args[0]
		}
		if key == nil || key.ID() == e.ID() {
			return e, only
		}
		name, _ := literal(key)
		return key, lowerCase(name)
	}
	return e, only
}

func lowerCase(name string) string {
	if name == strings.ToLower(name) {
		return ""
	}
	return "header names are lower case here: write " + `"` + strings.ToLower(name) + `"`
}

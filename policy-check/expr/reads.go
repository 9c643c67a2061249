package expr

import (
	"maps"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// reads names what an expression asks of a request, sorted: attributes, and
// headers as request.headers["x-user"], or request.headers alone where the name
// is computed.
func reads(a *ast.AST, names map[string]Attribute) []string {
	found := make(map[string]bool)
	l := newLowerer(a, names)
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.AllMatcher()) {
		if isHeaders(e, a) {
			found[headerRead(e)] = true
		} else if name := l.name(e); name != "" {
			if _, ok := names[name]; ok {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// headerRead spells the look-up in which e, the headers, stands.
func headerRead(e ast.NavigableExpr) string {
	parent, ok := e.Parent()
	if !ok {
		return headers
	}
	switch parent.Kind() {
	case ast.SelectKind:
		return headers + "[" + strconv.Quote(parent.AsSelect().FieldName()) + "]"
	case ast.CallKind:
		args := parent.AsCall().Args()
		key := args[0] // of in
		if parent.AsCall().FunctionName() == operators.Index {
			key = args[1]
		}
		if name, ok := literal(key); ok {
			return headers + "[" + strconv.Quote(name) + "]"
		}
	}
	return headers
}

package dashboards

import (
	"regexp"
	"strings"
)

// Query is one PromQL expression of one panel.
type Query struct {
	Board, Panel string
	// Expr is what Grafana gets, with $__rate_interval and board variables.
	Expr string
	// MayBeEmpty says why the query may rightly answer nothing against a mesh
	// under ordinary traffic. Empty means that it must answer.
	MayBeEmpty string

	// variables of the board, by name, with the values they have at first.
	variables map[string]string
}

// Resolve replaces what Grafana would replace and answers an expression that
// any PromQL engine takes. Vars are by name without the dollar sign. Unless
// vars says otherwise the rate interval is 1m, the interval 15s and the range
// 1h, and a variable of the board has the value that it has when the board is
// opened. What is no variable at all stays as it is, and will not parse.
func (q Query) Resolve(vars map[string]string) string {
	defaults := map[string]string{
		"__rate_interval": "1m", "__interval": "15s", "__interval_ms": "15000",
		"__range": "1h", "__range_s": "3600", "__range_ms": "3600000",
	}
	// The forms of a variable: $name, ${name} and ${name:format}.
	form := regexp.MustCompile(`\$(\w+)|\$\{(\w+)(?::\w+)?\}`)
	return form.ReplaceAllStringFunc(q.Expr, func(text string) string {
		name, _, _ := strings.Cut(strings.Trim(text, "${}"), ":")
		if v, ok := vars[name]; ok {
			return v
		}
		if v, ok := q.variables[name]; ok {
			return v
		}
		if v, ok := defaults[name]; ok {
			return v
		}
		return text
	})
}

package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/telemesh/telemesh/policy-check/expr"
)

// ParseError is one reason to refuse a file.
type ParseError struct {
	File string
	// Line and Column count from 1.
	Line, Column int
	Reason       string
}

// Error is "file:line:column: reason".
func (e *ParseError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// reader reads YAML nodes strictly and gathers every problem. It knows YAML and
// positions; the fields of a policy are in parse.go.
type reader struct {
	file     string
	source   []string // lines of the file
	compiler *expr.Compiler
	problems []*ParseError
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.failAt(max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...))
}

func (r *reader) failAt(line, column int, reason string) {
	r.problems = append(r.problems, &ParseError{File: r.file, Line: line, Column: column, Reason: reason})
}

// field is one field of a mapping.
type field struct {
	name     string
	required bool
	read     func(*yaml.Node)
	// unavailable marks a field of the language that this version refuses.
	unavailable bool
}

// object reads a mapping with exactly these fields. what names it in errors.
func (r *reader) object(n *yaml.Node, what string, fields []field) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping, is %s", what, KindOf(n))
		return
	}
	seen := make(map[string]bool, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value && key.Kind == yaml.ScalarNode })
		switch {
		case at < 0:
			r.fail(key, "%s", unknownField(what, key.Value, fields))
		case seen[key.Value]:
			r.fail(key, "%s: field %s is given twice", what, key.Value)
		case fields[at].unavailable:
			r.fail(key, "%s: field %s is not available in this version", what, key.Value)
		case value.Kind == yaml.AliasNode:
			r.fail(value, "aliases are not supported: write the value out")
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			r.fail(value, "%s: field %s has no value", what, key.Value)
		default:
			fields[at].read(value)
		}
		seen[key.Value] = true
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			r.fail(n, "%s: field %s is required", what, f.name)
		}
	}
}

func unknownField(what, name string, fields []field) string {
	var known []string
	for _, f := range fields {
		if !f.unavailable {
			known = append(known, f.name)
		}
	}
	reason := fmt.Sprintf("%s has no field %s", what, strconv.Quote(name))
	if near := expr.Nearest(name, known); near != "" {
		reason += "; did you mean " + near + "?"
	}
	return reason + " (allowed: " + strings.Join(known, ", ") + ")"
}

// list reads a sequence.
func (r *reader) list(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s must be a list, is %s", what, KindOf(n))
		return
	}
	if len(n.Content) == 0 {
		r.fail(n, "%s is empty", what)
	}
	for _, c := range n.Content {
		if c.Kind == yaml.AliasNode {
			r.fail(c, "aliases are not supported: write the value out")
			continue
		}
		read(c)
	}
}

// text reads a string. A number or a bool must be quoted to be one.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		r.fail(n, "%s must be a string, is %s", what, KindOf(n))
		return "", false
	}
	return n.Value, true
}

// integer reads a whole number within bounds.
func (r *reader) integer(n *yaml.Node, what string, low, high int64) int64 {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		r.fail(n, "%s must be a whole number, is %s", what, KindOf(n))
		return low
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
	if err != nil || v < low || v > high {
		if high == math.MaxInt64 {
			r.fail(n, "%s must be at least %d, is %s", what, low, n.Value)
		} else {
			r.fail(n, "%s must be between %d and %d, is %s", what, low, high, n.Value)
		}
		return low
	}
	return v
}

// duration reads Go's notation within bounds.
func (r *reader) duration(n *yaml.Node, what string, low, high time.Duration) Duration {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!int" {
		r.fail(n, "%s needs a unit: write %ss or %sms", what, n.Value, n.Value)
		return Duration(low)
	}
	text, ok := r.text(n, what)
	if !ok {
		return Duration(low)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		r.fail(n, "%s must be a duration such as 1s, 500ms or 1m, is %q", what, text)
		return Duration(low)
	}
	if d < low || d > high {
		r.fail(n, "%s must be between %s and %s, is %s", what, shortDuration(low), shortDuration(high), text)
		return Duration(low)
	}
	return Duration(d)
}

// word reads one of a few words. later are words of the language that this
// version refuses.
func (r *reader) word(n *yaml.Node, what string, into *string, allowed, later []string) {
	v, ok := r.text(n, what)
	if !ok {
		return
	}
	if slices.Contains(allowed, v) {
		*into = v
		return
	}
	if slices.Contains(later, v) {
		r.fail(n, "%s %s is not available in this version; use %s", what, v, strings.Join(allowed, " or "))
		return
	}
	reason := fmt.Sprintf("%s must be %s, is %q", what, strings.Join(allowed, " or "), v)
	if near := expr.Nearest(v, allowed); near != "" && len(allowed) > 1 {
		reason += "; did you mean " + near + "?"
	}
	r.fail(n, "%s", reason)
}

// condition reads a CEL expression of type bool.
func (r *reader) condition(n *yaml.Node, what string) string {
	v, ok := r.expression(n, what)
	if !ok {
		return ""
	}
	_, problems := r.compiler.Bool(v)
	r.failExpression(n, what, problems)
	return v
}

// key reads a CEL expression of type string.
func (r *reader) key(n *yaml.Node, what string) string {
	v, ok := r.expression(n, what)
	if !ok {
		return ""
	}
	_, problems := r.compiler.String(v)
	r.failExpression(n, what, problems)
	return v
}

// expression reads the text of an expression. YAML takes a bare true or 7 for
// something else than text, which is of no interest to people who write CEL.
func (r *reader) expression(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "%s must be an expression, is %s", what, KindOf(n))
		return "", false
	}
	return n.Value, true
}

func (r *reader) failExpression(n *yaml.Node, what string, problems []expr.Problem) {
	for _, p := range problems {
		line, column := position(r.source, n, p.Line, p.Column)
		r.failAt(line, column, what+": "+p.Reason)
	}
}

// KindOf says in an error what a YAML value is.
func KindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the bool " + n.Value
	}
	return strconv.Quote(n.Value)
}

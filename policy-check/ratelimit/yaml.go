package ratelimit

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
)

// leastNodes is how many values a file may have at least once its aliases are
// followed; without aliases there is always less than one in a byte. A few lines
// of aliases of aliases stand for billions.
const leastNodes = 100_000

// reader reads YAML nodes and gathers every problem. It takes the values that
// envoyproxy/ratelimit takes (unquoted numbers as text, empty lists, aliases)
// and refuses the fields that it would overlook.
type reader struct {
	file     string
	nodes    int // that may still be read
	problems []*policy.ParseError
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, &policy.ParseError{
		File: r.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Reason: fmt.Sprintf(format, args...),
	})
}

// field is one field of a mapping; read gets the value with aliases followed. A
// field without a value counts as left out.
type field struct {
	name     string
	required bool
	read     func(*yaml.Node)
}

// mapping reads a mapping with exactly these fields. what names it in errors.
func (r *reader) mapping(n *yaml.Node, what string, fields ...field) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping", what)
		return
	}
	var seen []string
	var empty []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], r.follow(n.Content[i+1])
		at := slices.IndexFunc(fields, func(f field) bool { return key.Kind == yaml.ScalarNode && f.name == key.Value })
		switch {
		case value == nil:
			return
		case at < 0:
			r.fail(key, "%s", unknownField(what, key.Value, fields))
		case slices.Contains(seen, key.Value):
			r.fail(key, "%s: field %s is given twice", what, key.Value)
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			empty = append(empty, key.Value)
		default:
			fields[at].read(value)
		}
		seen = append(seen, key.Value)
	}
	for _, f := range fields {
		if f.required && (!slices.Contains(seen, f.name) || slices.Contains(empty, f.name)) {
			r.fail(n, "%s: field %s is required", what, f.name)
		}
	}
}

func unknownField(what, name string, fields []field) string {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	reason := fmt.Sprintf("%s has no field %q", what, name)
	if near := expr.Nearest(name, known); near != "" {
		reason += "; did you mean " + near + "?"
	}
	return reason + " (allowed: " + strings.Join(known, ", ") + ")"
}

// follow resolves an alias. It returns nil, once with a problem, when the file
// is too large.
func (r *reader) follow(n *yaml.Node) *yaml.Node {
	if r.nodes--; r.nodes < 0 {
		if r.nodes == -1 {
			r.fail(n, "file has too many values once its aliases are followed: write them out")
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// list reads a sequence.
func (r *reader) list(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s must be a list", what)
		return
	}
	for _, c := range n.Content {
		if c = r.follow(c); c == nil {
			return
		}
		read(c)
	}
}

// text reads any scalar as it is written.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "%s must be text", what)
		return ""
	}
	return n.Value
}

func (r *reader) boolean(n *yaml.Node, what string) (v bool) {
	if n.Kind != yaml.ScalarNode || n.Decode(&v) != nil {
		r.fail(n, "%s must be true or false", what)
	}
	return v
}

// uint32 reads a whole number.
func (r *reader) uint32(n *yaml.Node, what string) uint32 {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!int" {
		if v, err := strconv.ParseUint(strings.ReplaceAll(n.Value, "_", ""), 0, 32); err == nil {
			return uint32(v)
		}
	}
	r.fail(n, "%s must be a whole number from 0 to %d", what, uint32(math.MaxUint32))
	return 0
}

package cluster

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ParseError is one reason to refuse a file.
type ParseError struct {
	File         string
	Line, Column int // from 1
	Reason       string
}

// Error is "file:line:column: reason".
func (e *ParseError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// reader reads YAML nodes strictly and gathers every problem. The fields of a
// DestinationRule are in parse.go.
type reader struct {
	file     string
	problems []error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, &ParseError{File: r.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Reason: fmt.Sprintf(format, args...)})
}

// fields are the fields of a mapping; a nil one is Istio's, but refused here.
type fields map[string]func(*yaml.Node)

// object reads a mapping that may have these fields. path names it in errors.
func (r *reader) object(n *yaml.Node, path string, known fields) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s must be a mapping", path)
		return
	}
	seen := make(map[string]bool, len(known))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case !ok:
			r.fail(key, "%s has no field %q (allowed: %s)", path, key.Value, known.names())
		case seen[key.Value]:
			r.fail(key, "%s: field %s is given twice", path, key.Value)
		case read == nil:
			r.fail(key, "%s: field %s is not supported in this version", path, key.Value)
		case value.Kind == yaml.AliasNode:
			r.fail(value, "aliases are not supported: write the value out")
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
			r.fail(value, "%s: field %s has no value", path, key.Value)
		default:
			read(value)
		}
		seen[key.Value] = true
	}
}

func (f fields) names() string {
	var names []string
	for name, read := range f {
		if read != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// has reports whether a mapping has a key.
func has(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// The readers of values below return a function that reads into its target.

func (r *reader) text(path string, into *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
			r.fail(n, "%s must be a string", path)
			return
		}
		*into = n.Value
	}
}

func (r *reader) boolean(path string, into *bool) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			r.fail(n, "%s must be true or false", path)
			return
		}
		*into = n.Value == "true"
	}
}

// integer reads a whole number from low to high.
func (r *reader) integer(path string, low, high int64, set func(int64)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < low || v > high {
			r.fail(n, "%s must be a whole number between %d and %d", path, low, high)
			return
		}
		set(v)
	}
}

// limit reads a bound, an int32 in Istio.
func (r *reader) limit(path string, into *int64) func(*yaml.Node) {
	return r.integer(path, 0, math.MaxInt32, func(v int64) { *into = v })
}

// number reads a number that may have a fraction.
func (r *reader) number(path string, low, high float64, into *float64) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := strconv.ParseFloat(n.Value, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || err != nil || !(v >= low && v <= high) {
			r.fail(n, "%s must be a number between %g and %g", path, low, high)
			return
		}
		*into = v
	}
}

// duration reads Istio's notation, which is Go's, from low upwards.
func (r *reader) duration(path string, low time.Duration, into *time.Duration) func(*yaml.Node) {
	return func(n *yaml.Node) {
		v, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || err != nil || v < low {
			r.fail(n, "%s must be a duration of at least %s, such as 1s, 500ms or 1m", path, low)
			return
		}
		*into = v
	}
}

// word reads one of a few words.
func (r *reader) word(path string, words []string, set func(string)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || !slices.Contains(words, n.Value) {
			r.fail(n, "%s must be %s, is %q", path, strings.Join(words, " or "), n.Value)
			return
		}
		set(n.Value)
	}
}

package authz

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
)

// decoder fills structs from YAML nodes strictly: the json tags of the structs
// are all the fields there are. It remembers where each value stands, so that
// whoever checks the values can say it.
type decoder struct {
	file     string
	problems []*policy.ParseError
	nodes    map[any]*yaml.Node // by pointer to the value
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, &policy.ParseError{File: d.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Reason: fmt.Sprintf(format, args...)})
}

// failAt reports a problem of a value that was decoded; at is its pointer.
func (d *decoder) failAt(at any, format string, args ...any) {
	n := d.nodes[at]
	if n == nil {
		n = &yaml.Node{}
	}
	d.fail(n, format, args...)
}

// value decodes into v, which is addressable. what names it in problems.
func (d *decoder) value(n *yaml.Node, v reflect.Value, what string) {
	if n.Kind == yaml.AliasNode {
		d.fail(n, "%s: aliases are not supported: write the value out", what)
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.fail(n, "%s has no value: leave the field out or give it one", what)
		return
	}
	d.nodes[v.Addr().Interface()] = n
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), what)
	case reflect.Struct:
		d.object(n, v, what)
	case reflect.Slice:
		d.list(n, v, what)
	case reflect.Map:
		d.labels(n, v, what)
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			d.fail(n, "%s must be true or false, is %s", what, policy.KindOf(n))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	default:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			d.fail(n, "%s must be a string, is %s; put it in quotation marks if it is one", what, policy.KindOf(n))
			return
		}
		v.SetString(n.Value)
	}
}

func (d *decoder) object(n *yaml.Node, v reflect.Value, what string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s must be a mapping, is %s", what, policy.KindOf(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			d.fail(key, "%s: field %s is given twice", what, key.Value)
			continue
		}
		seen[key.Value] = true
		known := fieldNames(v.Type())
		if at, ok := known[key.Value]; ok && key.Kind == yaml.ScalarNode {
			d.value(n.Content[i+1], v.Field(at), what+"."+key.Value)
			continue
		}
		names := make([]string, 0, len(known))
		for i := range v.NumField() {
			names = append(names, tagName(v.Type().Field(i)))
		}
		d.fail(key, "%s", unknown(what, key.Value, names))
	}
}

// unknown says that there is no such field, and which there are.
func unknown(what, name string, names []string) string {
	reason := fmt.Sprintf("%s has no field %s", what, strconv.Quote(name))
	if near := expr.Nearest(name, names); near != "" {
		reason += "; did you mean " + near + "?"
	}
	return reason + " (allowed: " + strings.Join(names, ", ") + ")"
}

func tagName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fieldNames(t reflect.Type) map[string]int {
	names := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		names[tagName(t.Field(i))] = i
	}
	return names
}

// list decodes a sequence. An empty one is a mistake wherever Istio has one: it
// looks like "nobody" and would mean "everybody". Only rules may be empty.
func (d *decoder) list(n *yaml.Node, v reflect.Value, what string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "%s must be a list, is %s", what, policy.KindOf(n))
		return
	}
	if len(n.Content) == 0 && what != "spec.rules" && what != "spec.jwtRules" {
		d.fail(n, "%s is empty: leave the field out or give it a value", what)
	}
	if len(n.Content) == 0 {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		d.value(c, v.Index(i), what+"["+strconv.Itoa(i)+"]")
		if v.Index(i).Kind() == reflect.String && v.Index(i).Len() == 0 && c.Tag == "!!str" {
			d.fail(c, "%s[%d] is empty", what, i)
		}
	}
}

// labels decodes a mapping of strings.
func (d *decoder) labels(n *yaml.Node, v reflect.Value, what string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s must be a mapping, is %s", what, policy.KindOf(n))
		return
	}
	m := make(map[string]string, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if _, twice := m[key.Value]; twice {
			d.fail(key, "%s: %s is given twice", what, key.Value)
		}
		if key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode || value.Tag != "!!str" {
			d.fail(value, "%s.%s must be a string, is %s", what, key.Value, policy.KindOf(value))
			continue
		}
		m[key.Value] = value.Value
	}
	v.Set(reflect.ValueOf(m))
}

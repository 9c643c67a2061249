package convert

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// value is a place in a document. What is read through get is noted, so that what
// nobody read can be named.
type value struct {
	n    *yaml.Node // nil: there is nothing
	key  *yaml.Node // before it in a mapping, for its line; nil if it is in a list
	path string
	in   *object
}

func (v value) ok() bool { return v.n != nil }

func (v value) remark(why string) Remark {
	line := 1
	if v.key != nil {
		line = v.key.Line
	} else if v.n != nil {
		line = v.n.Line
	}
	what := v.in.title()
	if v.path != "" {
		what += ", " + v.path
	}
	return Remark{File: v.in.file, Line: line, What: what, Why: why}
}

func (v value) child(name string, key, n *yaml.Node) value {
	path := name
	if v.path != "" {
		path = v.path + "." + name
	}
	return value{n: n, key: key, path: path, in: v.in}
}

// find is a field of a mapping.
func (v value) find(name string) value {
	if v.n != nil && v.n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(v.n.Content); i += 2 {
			if v.n.Content[i].Value == name {
				return v.child(name, v.n.Content[i], v.n.Content[i+1])
			}
		}
	}
	return value{in: v.in, path: v.path}
}

// get is find, and notes that the field was read.
func (v value) get(name string) value {
	c := v.find(name)
	if c.n != nil {
		v.in.used[c.n] = true
	}
	return c
}

// ignore notes that all below was read: it is of no use to a policy.
func (v value) ignore() {
	if v.n == nil {
		return
	}
	v.in.used[v.n] = true
	for _, f := range v.fields() {
		f.value.ignore()
	}
	for _, e := range v.list() {
		e.ignore()
	}
}

func (v value) text() string {
	if v.n == nil || v.n.Kind != yaml.ScalarNode {
		return ""
	}
	return v.n.Value
}

func (v value) integer() (int64, bool) {
	n, err := strconv.ParseInt(v.text(), 10, 64)
	return n, err == nil
}

func (v value) list() (all []value) {
	if v.n == nil || v.n.Kind != yaml.SequenceNode {
		return nil
	}
	for i, n := range v.n.Content {
		c := v.child("", nil, n)
		c.path = fmt.Sprintf("%s[%d]", v.path, i)
		all = append(all, c)
	}
	return all
}

// named is a field of a mapping whose names are the user's.
type named struct {
	name  string
	value value
}

func (v value) fields() (all []named) {
	if v.n == nil || v.n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		all = append(all, named{v.n.Content[i].Value, v.child(v.n.Content[i].Value, v.n.Content[i], v.n.Content[i+1])})
	}
	return all
}

// entries are fields, and notes that they were read.
func (v value) entries() []named {
	all := v.fields()
	for _, f := range all {
		v.in.used[f.value.n] = true
	}
	return all
}

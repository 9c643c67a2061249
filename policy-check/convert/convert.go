package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is one input.
type File struct {
	Name string
	Data []byte
}

// Options say what the inputs do not.
type Options struct {
	// Namespace is that of objects without one; "default" if empty.
	Namespace string
	// Service is the target of what names none that we know, such as a Gateway.
	Service string
	// Descriptors are CEL expressions for keys of envoyproxy/ratelimit, whose
	// values Envoy's own configuration defines.
	Descriptors map[string]string
}

// Remark is something that a reader has to know of one place.
type Remark struct {
	File string
	Line int
	// What is the object and the field, Why the reason.
	What, Why string
}

// String is "file:line: what: why".
func (r Remark) String() string { return fmt.Sprintf("%s:%d: %s: %s", r.File, r.Line, r.What, r.Why) }

// Result is what became of the inputs.
type Result struct {
	// Policies is YAML, a document for each; empty if there is none.
	Policies []byte
	// Count is how many there are.
	Count int
	// Left is what is not carried over, in the order of the inputs.
	Left []Remark
	// Differs is what is carried over and acts differently, or rests on an
	// assumption.
	Differs []Remark
}

// converter is one call of Convert.
type converter struct {
	o       Options
	objects []*object
	out     []*draft
	result  Result
}

// object is one document of the inputs.
type object struct {
	file, kind      string
	name, namespace string
	root            value
	used            map[*yaml.Node]bool
	done            bool // some converter took it
}

// Convert reads all files together, as objects name each other.
func Convert(files []File, o Options) Result {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	c := &converter{o: o}
	for _, f := range files {
		c.read(f)
	}
	c.mixer()
	for _, obj := range c.objects {
		switch obj.kind {
		case kindDescriptors:
			c.descriptors(obj)
		case "RateLimitPolicy":
			c.kuadrant(obj)
		case "BackendTrafficPolicy":
			c.gateway(obj)
		}
	}
	for _, obj := range c.objects {
		c.leftovers(obj)
	}
	c.render()
	slices.SortStableFunc(c.result.Left, func(a, b Remark) int {
		if a.File != b.File {
			return 0 // in the order of the inputs, which is that of the objects
		}
		return a.Line - b.Line
	})
	return c.result
}

// kindDescriptors stands for a file of envoyproxy/ratelimit, which has no kind.
const kindDescriptors = "rate limit domain"

func (c *converter) read(f File) {
	for d := yaml.NewDecoder(bytes.NewReader(f.Data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.result.Left = append(c.result.Left, Remark{File: f.Name, Line: 1, What: "file", Why: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
			return
		}
		if doc.Kind != yaml.DocumentNode || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!null" {
			continue
		}
		c.take(f.Name, doc.Content[0])
	}
}

// take takes an object, or those of a list as kubectl writes it.
func (c *converter) take(file string, n *yaml.Node) {
	o := c.object(file, n)
	items := o.root.find("items").list()
	if o.kind != "List" {
		c.objects = append(c.objects, o)
		return
	}
	for _, i := range items {
		c.take(file, i.n)
	}
}

func (c *converter) object(file string, n *yaml.Node) *object {
	obj := &object{file: file, used: make(map[*yaml.Node]bool)}
	obj.root = value{n: n, in: obj}
	if kind, domain := obj.root.get("kind"), obj.root.find("domain"); kind.text() == "" && domain.ok() {
		obj.kind, obj.name = kindDescriptors, obj.root.get("domain").text()
		return obj
	}
	obj.kind = obj.root.get("kind").text()
	obj.root.get("apiVersion").ignore()
	obj.root.get("status").ignore()
	meta := obj.root.get("metadata")
	meta.ignore()
	obj.name, obj.namespace = meta.find("name").text(), meta.find("namespace").text()
	if obj.namespace == "" {
		obj.namespace = c.o.Namespace
	}
	return obj
}

// title names an object in remarks.
func (o *object) title() string {
	name := o.name
	if o.namespace != "" {
		name = o.namespace + "/" + name
	}
	return strings.TrimSpace(o.kind + " " + name)
}

// leave notes what is not carried over.
func (c *converter) leave(v value, format string, args ...any) {
	c.result.Left = append(c.result.Left, v.remark(fmt.Sprintf(format, args...)))
}

// differ notes what acts differently.
func (c *converter) differ(v value, format string, args ...any) {
	c.result.Differs = append(c.result.Differs, v.remark(fmt.Sprintf(format, args...)))
}

// leftovers names every field that no converter looked at.
func (c *converter) leftovers(o *object) {
	if !o.done {
		what := "objects of this kind are not carried over"
		if o.kind == "" {
			what = "has neither a kind nor a domain"
		}
		c.leave(o.root, "%s", what)
		return
	}
	c.unread(o.root)
}

func (c *converter) unread(v value) {
	switch v.n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(v.n.Content); i += 2 {
			child := v.child(v.n.Content[i].Value, v.n.Content[i], v.n.Content[i+1])
			if !v.in.used[child.n] {
				c.leave(child, "this field is not carried over")
				continue
			}
			c.unread(child)
		}
	case yaml.SequenceNode:
		for _, e := range v.list() {
			c.unread(e)
		}
	case yaml.AliasNode: // not followed: it may lead to where it stands
		c.leave(v, "aliases are not supported: write the value out")
	}
}

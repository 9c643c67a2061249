package convert

import (
	"strings"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// kuadrant converts a RateLimitPolicy, whose predicates and counters are CEL over
// Envoy's attributes as ours are.
func (c *converter) kuadrant(o *object) {
	o.done = true
	spec := o.root.get("spec")
	targets := c.targets(spec)
	for _, wrapper := range []string{"", "defaults", "overrides"} {
		from := spec
		if wrapper != "" {
			from = spec.get(wrapper)
			if !from.ok() {
				continue
			}
			if s := from.get("strategy").text(); s == "merge" || wrapper == "overrides" {
				c.differ(from, "limits of other policies hold beside these, all of them; nothing is replaced")
			}
		}
		limits := from.get("limits")
		if !limits.ok() {
			continue
		}
		whole := c.predicates(from.get("when"))
		if len(targets) == 0 {
			limits.ignore()
			continue
		}
		p := c.add(o.root, o.name, o.namespace, "", targets...)
		for _, l := range limits.entries() {
			c.kuadrantLimit(p, l, whole)
		}
	}
}

// predicates are conditions that all must hold.
func (c *converter) predicates(when value) (match string) {
	var all []string
	for _, w := range when.list() {
		if p := w.get("predicate").text(); p != "" {
			all = append(all, "("+p+")")
		}
	}
	return strings.Join(all, " && ")
}

func (c *converter) kuadrantLimit(p *draft, l named, whole string) {
	when := l.value.get("when")
	match := and(whole, c.predicates(when))
	for _, w := range when.list() {
		if !w.find("predicate").ok() {
			c.leave(l.value, "a condition that is no predicate is not carried over, and without it the limit would hold for others; write it in CEL")
			l.value.ignore()
			return
		}
	}
	var keys []string
	for _, k := range l.value.get("counters").list() {
		e := k.get("expression").text()
		if e == "" {
			e = k.text() // of older versions
		}
		keys = append(keys, e)
	}
	var rates []rate
	for _, r := range l.value.get("rates").list() {
		n, _ := r.get("limit").integer()
		window, ok := window(r)
		if !ok {
			c.leave(l.value, "needs a window such as 10s for every rate")
			l.value.ignore()
			return
		}
		rates = append(rates, rateOf(n, window))
	}
	p.rule(&rule{Name: l.name, Match: match, Limit: &limit{Key: keys, Rates: rates}, from: l.value})
}

// window is a rate's: one text, or a number of units in older versions.
func window(r value) (time.Duration, bool) {
	if w := r.get("window"); w.ok() {
		return durationOf(w)
	}
	n, ok := r.get("duration").integer()
	unit := units[r.get("unit").text()]
	return time.Duration(n) * unit, ok && unit > 0
}

// durationOf is a text such as 10s.
func durationOf(v value) (time.Duration, bool) {
	d, err := time.ParseDuration(v.text())
	return d, err == nil && d > 0
}

// targets are the services of a policy's targetRef or targetRefs: those that an
// HTTPRoute among the inputs names, or the one that the caller said.
func (c *converter) targets(spec value) (all []target) {
	refs := spec.get("targetRefs").list()
	if one := spec.get("targetRef"); one.ok() {
		refs = append(refs, one)
	}
	for _, ref := range refs {
		kind, name := ref.get("kind").text(), ref.get("name").text()
		ref.ignore()
		found := c.servicesOf(ref.in, kind, name)
		if len(found) == 0 && c.o.Service != "" {
			found = []string{c.o.Service}
		}
		if len(found) == 0 {
			c.leave(ref, "%s %s is not among the inputs, or names no service: add its YAML, or say --service", kind, name)
		}
		for _, s := range found {
			if t := (target{policy.TargetService, s}); !contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}

func contains(all []target, t target) bool {
	for _, o := range all {
		if o == t {
			return true
		}
	}
	return false
}

// servicesOf are the services that a target stands for: itself, or the backends of
// an HTTPRoute.
func (c *converter) servicesOf(by *object, kind, name string) (all []string) {
	if kind == "Service" {
		return []string{name}
	}
	for _, o := range c.objects {
		if o.kind != kind || o.name != name || o.namespace != by.namespace || kind != "HTTPRoute" && kind != "GRPCRoute" {
			continue
		}
		o.done = true
		o.root.ignore() // routes are traffic management's
		for _, r := range o.root.find("spec").find("rules").list() {
			for _, b := range r.find("backendRefs").list() {
				if s := b.find("name").text(); s != "" {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

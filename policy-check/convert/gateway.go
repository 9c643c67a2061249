package convert

import (
	"fmt"
	"strings"

	policy "github.com/telemesh/telemesh/policy-check"
)

// gateway converts the rate limits of an Envoy Gateway BackendTrafficPolicy. What
// else it says is traffic management.
func (c *converter) gateway(o *object) {
	o.done = true
	spec := o.root.get("spec")
	targets := c.targets(spec)
	limits := spec.get("rateLimit")
	limits.get("type").ignore()
	for _, where := range []struct{ name, scope string }{{"global", ""}, {"local", policy.ScopePod}} {
		rules := limits.get(where.name)
		if !rules.ok() {
			continue
		}
		if len(targets) == 0 {
			rules.ignore()
			continue
		}
		c.differ(rules, burstDiffers)
		modes := make(map[string]*draft)
		for _, mode := range []string{"", policy.ModeShadow} {
			modes[mode] = c.add(o.root, strings.TrimSuffix(o.name+"-"+strings.ToLower(mode), "-"), o.namespace, mode, targets...)
		}
		for i, r := range rules.get("rules").list() {
			c.gatewayRule(modes, r, fmt.Sprintf("%s-%d", where.name, i+1), where.scope)
		}
	}
}

func (c *converter) gatewayRule(modes map[string]*draft, r value, name, scope string) {
	mode := ""
	if r.get("shadowMode").text() == "true" {
		mode = policy.ModeShadow
	}
	if r.get("shared").text() == "true" {
		c.differ(r, "shared: each target of the policy has its own bucket here")
	}
	var conds, keys []string
	for _, s := range r.get("clientSelectors").list() {
		more, k, why := selector(s)
		if why != "" {
			c.leave(r, "%s, and without that the limit would hold for others", why)
			r.ignore()
			return
		}
		conds, keys = append(conds, more...), append(keys, k...)
	}
	if cost := r.get("cost"); cost.ok() {
		request := cost.get("request")
		if n, ok := request.get("number").integer(); !ok || n != 1 || cost.find("response").ok() {
			c.leave(r, "its cost is not one for each request")
			r.ignore()
			return
		}
		request.ignore()
	}
	l := r.get("limit")
	requests, ok := l.get("requests").integer()
	window := units[strings.ToLower(l.get("unit").text())]
	if !ok || window == 0 {
		c.leave(l, "needs requests and unit")
		return
	}
	made := limited(r, name, and(conds...), requests, window, keys)
	if made.Limit != nil {
		made.Limit.Scope = scope
	}
	modes[mode].rule(made)
}

// selector is one of a rule's conditions, all of which must hold; why says what is
// in the way.
func selector(s value) (conds, keys []string, why string) {
	for _, h := range s.get("headers").list() {
		e, present := header(h.get("name").text())
		want, invert := h.get("value").text(), h.get("invert").text() == "true"
		cond := ""
		switch kind := h.get("type").text(); kind {
		case "", "Exact":
			cond = e + " == " + quote(want)
		case "RegularExpression":
			cond = e + ".matches(" + quote("^(?:"+want+")$") + ")"
		case "Distinct":
			if invert {
				return nil, nil, "a header cannot be distinct and inverted"
			}
			keys = append(keys, e)
		default:
			return nil, nil, "a header of type " + kind + " is not known"
		}
		switch {
		case invert:
			conds = append(conds, "!("+and(present, cond)+")")
		default:
			conds = append(conds, present)
			if cond != "" {
				conds = append(conds, cond)
			}
		}
	}
	if cidr := s.get("sourceCIDR"); cidr.ok() {
		if cidr.get("type").text() != "Distinct" || cidr.get("value").text() != "0.0.0.0/0" {
			return nil, nil, "addresses of a network cannot be selected"
		}
		keys = append(keys, "source.address")
	}
	for _, f := range s.fields() {
		if f.name != "headers" && f.name != "sourceCIDR" {
			return nil, nil, "the selector's " + f.name + " is not carried over"
		}
	}
	return conds, keys, ""
}

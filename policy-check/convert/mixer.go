package convert

import (
	"slices"
	"strings"

	policy "github.com/telemesh/telemesh/policy-check"
)

// rootNamespace is where Mixer's configuration held for the whole mesh.
const rootNamespace = "istio-system"

// Kinds of Mixer's objects: the general ones, and those of single adapters and
// templates before Istio 1.1.
var (
	mixerHandlers  = []string{"memquota", "redisquota", "denier", "listchecker"}
	mixerInstances = []string{"quota", "checknothing", "listentry"}
)

// mixerPart is a handler or an instance: what it is, and its parameters.
type mixerPart struct {
	*object
	of     string
	params value
}

// mixer converts Mixer's rules, with all that they and quota bindings name.
func (c *converter) mixer() {
	for _, o := range c.objects {
		if o.kind == "rule" {
			c.mixerRule(o)
		}
	}
}

func (c *converter) mixerRule(o *object) {
	o.done = true
	spec := o.root.get("spec")
	match, err := mixerCondition(spec.get("match").text())
	if err != nil {
		c.leave(spec, "%v in match is not carried over, and without it the rule would hold for other requests", err)
		spec.ignore()
		return
	}
	for _, a := range spec.get("actions").list() {
		h := c.part(a.get("handler"), o, "handler", "compiledAdapter", mixerHandlers)
		if h == nil {
			a.ignore()
			continue
		}
		a.get("name").ignore()
		for _, i := range a.get("instances").list() {
			in := c.part(i, o, "instance", "compiledTemplate", mixerInstances)
			if in == nil {
				continue
			}
			switch {
			case (h.of == "memquota" || h.of == "redisquota") && in.of == "quota":
				c.mixerQuota(a, h, in, match)
			case h.of == "denier":
				c.mixerDenier(a, h, match)
			case h.of == "listchecker" && in.of == "listentry":
				c.mixerList(a, h, in, match)
			default:
				c.leave(i, "adapter %s does nothing with an instance of %s", h.of, in.of)
			}
		}
	}
}

// part finds the handler or instance that a text names: NAME, NAME.KIND or
// NAME.KIND.NAMESPACE.
func (c *converter) part(ref value, by *object, general, field string, special []string) *mixerPart {
	name, _, _ := strings.Cut(ref.text(), ".")
	for _, o := range c.objects {
		if o.name != name || o.kind != general && !slices.Contains(special, o.kind) {
			continue
		}
		o.done = true
		spec := o.root.get("spec")
		if o.kind != general {
			return &mixerPart{o, o.kind, spec}
		}
		p := &mixerPart{o, spec.get(field).text(), spec.get("params")}
		if !slices.Contains(special, p.of) {
			p.params.ignore()
			c.leave(ref, "%s is a %s, which is no limit and no access check", name, p.of)
			return nil
		}
		return p
	}
	c.leave(ref, "%s %q is not among the inputs", general, ref.text())
	return nil
}

// mixerQuota makes limits of a quota: one policy for each service that a binding
// names.
func (c *converter) mixerQuota(from value, h, in *mixerPart, match string) {
	var names, keys, needs []string
	for _, d := range in.params.get("dimensions").entries() {
		cel, n, err := mixerExpression(d.value.text())
		if err != nil {
			c.leave(d.value, "%v is not carried over, and without it others would share the limit", err)
			return
		}
		names, keys, needs = append(names, d.name), append(keys, cel), append(needs, n...)
	}
	quota, ok := c.quotaOf(h, in.name)
	if !ok {
		c.leave(from, "handler %s has no quota %s", h.name, in.name)
		return
	}
	rates, overrides, ok := c.amounts(quota, names, keys)
	if !ok {
		return
	}
	bound := false
	for _, b := range c.bindings(in.name) {
		bound = true
		p := c.add(b.spec, in.name+"-"+b.target.Name, b.namespace, "", b.target)
		p.rule(&rule{
			Name: in.name, Match: and(append([]string{match, b.match}, needs...)...), from: quota,
			Limit: &limit{Key: keys, Rates: rates, Overrides: overrides},
		})
	}
	if !bound {
		c.leave(in.root, "no QuotaSpec and QuotaSpecBinding among the inputs ask for this quota, so it limits nothing")
	}
}

// quotaOf is a handler's entry for a quota.
func (c *converter) quotaOf(h *mixerPart, name string) (value, bool) {
	h.params.get("redisServerUrl").ignore() // the hub keeps the buckets
	h.params.get("connectionPoolSize").ignore()
	for _, q := range h.params.get("quotas").list() {
		if short, _, _ := strings.Cut(q.get("name").text(), "."); short == name {
			return q, true
		}
	}
	return value{}, false
}

// amounts are the rates of a quota and of its overrides.
func (c *converter) amounts(quota value, names, keys []string) (rates []rate, overrides []override, ok bool) {
	most, ok := quota.get("maxAmount").integer()
	window, timed := durationOf(quota.get("validDuration"))
	if !ok || !timed {
		c.leave(quota, "a quota without maxAmount and validDuration counts what is in use, not a rate")
		quota.ignore()
		return nil, nil, false
	}
	if a := quota.get("rateLimitAlgorithm").text(); a == "FIXED_WINDOW" {
		c.differ(quota, burstDiffers)
	} else {
		c.differ(quota, "its window rolls; the bucket here admits the amount at once and then refills evenly")
	}
	quota.get("bucketDuration").ignore()
	for _, o := range quota.get("overrides").list() {
		of := window
		if w, ok := durationOf(o.get("validDuration")); ok {
			of = w
		}
		n, _ := o.get("maxAmount").integer()
		var conds []string
		for _, d := range o.get("dimensions").entries() {
			at := slices.Index(names, d.name)
			if at < 0 {
				c.leave(d.value, "the quota has no such dimension, so the override never holds")
				conds = nil
				break
			}
			conds = append(conds, keys[at]+" == "+quote(d.value.text()))
		}
		if len(conds) > 0 {
			overrides = append(overrides, override{and(conds...), []rate{rateOf(n, of)}})
		}
	}
	return []rate{rateOf(most, window)}, overrides, true
}

// binding is a service whose requests a quota counts.
type binding struct {
	spec      value
	namespace string
	target    target
	match     string
}

// bindings are the services for which a quota is asked.
func (c *converter) bindings(quota string) (all []binding) {
	for _, o := range c.objects {
		if o.kind != "QuotaSpecBinding" {
			continue
		}
		o.done = true
		spec := o.root.get("spec")
		match, asked := "", false
		for _, q := range spec.get("quotaSpecs").list() {
			q.ignore()
			m, ok := c.asks(q.find("name").text(), quota)
			match, asked = m, asked || ok
		}
		for _, s := range spec.get("services").list() {
			name, namespace := s.get("name").text(), s.get("namespace").text()
			if namespace == "" {
				namespace = o.namespace
			}
			t := target{policy.TargetService, name}
			if s.get("service").text() == "*" || name == "*" {
				if s.find("namespace").text() == "" {
					namespace = c.o.Namespace
				}
				t = target{policy.TargetNamespace, namespace}
			}
			if asked {
				all = append(all, binding{o.root, namespace, t, match})
			}
		}
	}
	return all
}

// asks reports whether a QuotaSpec asks for a quota, and when.
func (c *converter) asks(spec, quota string) (match string, ok bool) {
	for _, o := range c.objects {
		if o.kind != "QuotaSpec" || o.name != spec {
			continue
		}
		o.done = true
		for _, r := range o.root.get("spec").get("rules").list() {
			for _, q := range r.get("quotas").list() {
				short, _, _ := strings.Cut(q.get("quota").text(), ".")
				if short != quota {
					continue
				}
				if n, given := q.get("charge").integer(); given && n != 1 {
					c.leave(q, "a charge of %d for a request is not carried over: it counts as one", n)
				}
				match, ok = c.quotaMatch(r), true
			}
		}
	}
	return match, ok
}

// quotaMatch is when a rule of a QuotaSpec holds: one of its clauses does.
func (c *converter) quotaMatch(r value) string {
	var clauses []string
	for _, m := range r.get("match").list() {
		var terms []string
		for _, a := range m.get("clause").entries() {
			cel, needs, err := mixerExpression(a.name)
			if err != nil {
				c.leave(a.value, "%v", err)
				continue
			}
			terms = append(terms, needs...)
			for _, how := range a.value.entries() {
				switch how.name {
				case "exact":
					terms = append(terms, cel+" == "+quote(how.value.text()))
				case "prefix":
					terms = append(terms, cel+".startsWith("+quote(how.value.text())+")")
				case "regex":
					terms = append(terms, cel+".matches("+quote("^(?:"+how.value.text()+")$")+")")
				}
			}
		}
		clauses = append(clauses, "("+and(terms...)+")")
	}
	return strings.Join(clauses, " || ")
}

// deny begins a policy for a rule that Mixer applied to its namespace.
func (c *converter) deny(from value, name string) *draft {
	namespace := from.in.namespace
	if namespace == rootNamespace {
		namespace = c.o.Namespace
		c.differ(from, "in %s it held for the whole mesh, here it holds for namespace %s: convert again with --namespace for others", rootNamespace, namespace)
	}
	return c.add(from.in.root, name, namespace, "", target{policy.TargetNamespace, namespace})
}

// httpStatus is how Mixer's clients answered a gRPC status.
var httpStatus = map[string]int{"3": 400, "5": 404, "7": 403, "8": 429, "14": 503, "16": 401}

func (c *converter) mixerDenier(from value, h *mixerPart, match string) {
	status := h.params.get("status")
	r := &rule{Name: h.name, Match: match, Access: &access{Action: policy.ActionDeny}, from: from}
	if s := httpStatus[status.get("code").text()]; s != 0 && s != 403 {
		r.Response = &response{Status: s}
	}
	if m := status.get("message").text(); m != "" {
		if r.Response == nil {
			r.Response = &response{}
		}
		r.Response.Body = m
	}
	h.params.get("validDuration").ignore() // how long proxies kept the answer
	h.params.get("validUseCount").ignore()
	c.deny(from, from.in.name).rule(r)
}

func (c *converter) mixerList(from value, h, in *mixerPart, match string) {
	for _, f := range []string{"cachingInterval", "cachingUseCount", "refreshInterval", "ttl"} {
		h.params.get(f).ignore()
	}
	if t := h.params.get("entryType").text(); t != "" && t != "STRINGS" {
		c.leave(h.params, "a list of %s is not carried over", t)
		return
	}
	if h.params.get("providerUrl").text() != "" {
		c.leave(h.params, "a list that is fetched from a URL is not carried over")
		return
	}
	var entries []string
	for _, e := range h.params.get("overrides").list() {
		entries = append(entries, e.text())
	}
	cel, needs, err := mixerExpression(in.params.get("value").text())
	if err != nil {
		c.leave(in.params, "%v is not carried over", err)
		return
	}
	listed := and(append(needs, cel+" in "+listOf(entries))...)
	if h.params.get("blacklist").text() != "true" {
		listed = "!(" + listed + ")"
	}
	c.deny(from, from.in.name).rule(&rule{Name: h.name, Match: and(match, listed), Access: &access{Action: policy.ActionDeny}, from: from})
}

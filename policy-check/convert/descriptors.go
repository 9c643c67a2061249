package convert

import (
	"fmt"
	"strings"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// wellKnown are the descriptor keys whose values Envoy's rate limit actions define
// by themselves.
var wellKnown = map[string]string{
	"remote_address": "source.address",
	"path":           "request.url_path",
	"method":         "request.method",
	"host":           "request.host",
	"authority":      "request.host",
	"user_agent":     "request.useragent",
}

// units are the windows that names of a unit stand for.
var units = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
	"week": 7 * 24 * time.Hour, "month": 30 * 24 * time.Hour, "year": 365 * 24 * time.Hour,
}

const burstDiffers = "its windows begin at full units of the clock and admit twice the limit across a boundary; the bucket here admits the limit at once and then refills evenly"

// scope is what the descriptors above a list have said.
type scope struct {
	policies map[string]*draft // by mode
	conds    []string
	keys     []string
	name     string
}

// descriptors converts a domain of envoyproxy/ratelimit.
func (c *converter) descriptors(o *object) {
	o.done = true
	if c.o.Service == "" {
		c.leave(o.root, "a domain names no service: say which one calls this domain with --service")
		o.root.ignore()
		return
	}
	s := scope{policies: make(map[string]*draft)}
	for _, mode := range []string{"", policy.ModeShadow} {
		name := o.name
		if mode != "" {
			name += "-shadow"
		}
		s.policies[mode] = c.add(o.root, name, c.o.Namespace, mode, target{policy.TargetService, c.o.Service})
	}
	c.differ(o.root, burstDiffers)
	c.level(o.root.get("descriptors"), s)
}

func (c *converter) level(list value, s scope) {
	valued := make(map[string][]string) // of the list's keys, for those without a value
	for _, d := range list.list() {
		if v := d.find("value").text(); v != "" {
			key := d.find("key").text()
			valued[key] = append(valued[key], v)
		}
	}
	for _, d := range list.list() {
		c.descriptor(d, s, valued)
	}
}

func (c *converter) descriptor(d value, s scope, valued map[string][]string) {
	key, want := d.get("key").text(), d.get("value").text()
	if strings.Contains(want, "*") {
		c.leave(d, "a value with * is not carried over; write a rule with startsWith or matches")
		d.ignore()
		return
	}
	expression, present, constant := c.meaning(d, key)
	s.name = strings.Trim(s.name+"-"+key+"-"+want, "-")
	s.conds = append(s.conds[:len(s.conds):len(s.conds)], present)
	switch {
	case constant: // of the route, not of the request
	case want != "":
		s.conds = append(s.conds, expression+" == "+quote(want))
	default:
		s.keys = append(s.keys[:len(s.keys):len(s.keys)], expression)
		if others := valued[key]; len(others) > 0 {
			s.conds = append(s.conds, "!("+expression+" in "+listOf(others)+")")
		}
	}
	c.descriptorLimit(d, s)
	c.level(d.get("descriptors"), s)
}

func (c *converter) descriptorLimit(d value, s scope) {
	shadow := d.get("shadow_mode").text() == "true"
	d.get("detailed_metric").ignore() // every rule has its own metrics here
	r := d.get("rate_limit")
	if !r.ok() || r.get("unlimited").text() == "true" {
		return
	}
	requests, ok := r.get("requests_per_unit").integer()
	window := units[strings.ToLower(r.get("unit").text())]
	if name := r.get("name").text(); name != "" {
		s.name = name
	}
	if !ok || window == 0 {
		c.leave(r, "needs unit and requests_per_unit")
		return
	}
	mode := ""
	if shadow {
		mode = policy.ModeShadow
	}
	s.policies[mode].rule(limited(d, s.name, and(s.conds...), requests, window, s.keys))
}

// limited is a rule of one limit. None at all is a denial.
func limited(from value, name, match string, requests int64, window time.Duration, keys []string) *rule {
	r := &rule{Name: name, Match: match, from: from}
	if requests == 0 {
		r.Access, r.Response = &access{Action: policy.ActionDeny}, &response{Status: 429}
		return r
	}
	r.Limit = &limit{Key: keys, Rates: []rate{rateOf(requests, window)}}
	return r
}

// meaning is the expression for a descriptor's key. One that Envoy's configuration
// defines is taken for a request header of that name.
func (c *converter) meaning(d value, key string) (expression, present string, constant bool) {
	lower := strings.ToLower(key)
	if e, ok := c.o.Descriptors[key]; ok {
		return e, "", false
	}
	if e, ok := wellKnown[lower]; ok {
		return e, "", false
	}
	if lower == "generic_key" || lower == "header_match" {
		c.differ(d, "%s is a constant of an Envoy route: the limit holds for all requests to the service, or say what it stands for with --descriptor", key)
		return "", "", true
	}
	expression, present = header(key)
	c.differ(d, "the key is taken for the request header %s; say otherwise with --descriptor '%s=EXPRESSION'", lower, key)
	return expression, present, false
}

func listOf(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = quote(t)
	}
	return fmt.Sprintf("[%s]", strings.Join(quoted, ", "))
}

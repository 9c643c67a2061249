package check

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
)

// rules are the compiled rules of one side, by stage.
type rules struct {
	deny, allow, limits []*rule
	draws               bool     // some policy is enforced on a share of requests
	reads               []string // by the conditions of deny and allow, sorted
}

// rule is one compiled rule.
type rule struct {
	policy, name string
	id           string            // policy/name
	match        *expr.BoolProgram // nil matches everything
	shadow       bool
	percent      float64
	counts       *counts
	implicit     *counts // of an Allow rule: the policy's implicit deny

	status            int
	body, contentType string
	headers           string
	keys              []*expr.StringProgram
	tiers             []tier // overrides in order, then the rule's own rates

	errors errorLog
}

// tier is the rates that apply to requests that match.
type tier struct {
	match   *expr.BoolProgram // nil matches everything
	buckets []bucket
}

// bucket is one rate and what headers say about it.
type bucket struct {
	limit    string // name for the leases
	name     string // quoted name in the headers
	item     string // RateLimit-Policy's item
	quota    string // X-RateLimit-Limit
	capacity int64
}

// enforced tells whether the rule refuses this request or only counts.
func (r *rule) enforced(draw float64) bool { return !r.shadow && draw < r.percent }

func (c *Checker) compile(compiler *expr.Compiler, p *policy.TrafficPolicy, into *rules) error {
	if p.Spec.EnforcePercent < 100 {
		into.draws = true
	}
	for i := range p.Spec.Rules {
		spec := &p.Spec.Rules[i]
		r := &rule{
			policy:  p.ID(),
			name:    spec.Name,
			id:      p.ID() + "/" + spec.Name,
			shadow:  p.Spec.Mode == policy.ModeShadow,
			percent: float64(p.Spec.EnforcePercent),
			counts:  c.countsOf(p.ID(), spec.Name),
			status:  spec.Response.Status,
			headers: spec.Response.Headers,
		}
		var err error
		if r.match, err = condition(compiler, spec.Match); err != nil {
			return fmt.Errorf("rule %s: match: %w", spec.Name, err)
		}
		if r.match != nil && spec.Access != nil {
			into.reads = append(into.reads, r.match.Reads()...)
		}
		r.setBody(spec)
		switch {
		case spec.Limit != nil:
			if err := r.compileLimit(compiler, p, spec); err != nil {
				return fmt.Errorf("rule %s: %w", spec.Name, err)
			}
			into.limits = append(into.limits, r)
		case spec.Access.Action == policy.ActionDeny:
			into.deny = append(into.deny, r)
		default:
			r.implicit = c.countsOf(p.ID(), policy.ImplicitDeny)
			into.allow = append(into.allow, r)
		}
	}
	return nil
}

func condition(compiler *expr.Compiler, text string) (*expr.BoolProgram, error) {
	if text == "" {
		return nil, nil
	}
	p, problems := compiler.Bool(text)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", problems[0].Reason)
	}
	return p, nil
}

func (r *rule) compileLimit(compiler *expr.Compiler, p *policy.TrafficPolicy, spec *policy.Rule) error {
	for _, k := range spec.Limit.Key {
		key, problems := compiler.String(k)
		if len(problems) > 0 {
			return fmt.Errorf("key %s: %s", k, problems[0].Reason)
		}
		r.keys = append(r.keys, key)
	}
	for i, o := range spec.Limit.Overrides {
		match, err := condition(compiler, o.Match)
		if err != nil {
			return fmt.Errorf("override %d: %w", i+1, err)
		}
		r.tiers = append(r.tiers, tier{match: match, buckets: r.buckets(p.OverrideBuckets(spec, i))})
	}
	r.tiers = append(r.tiers, tier{buckets: r.buckets(p.Buckets(spec))})
	return nil
}

func (r *rule) buckets(bs []policy.Bucket) []bucket {
	out := make([]bucket, len(bs))
	for i, b := range bs {
		name := r.name
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		// w is in whole seconds: other windows are scaled to the next one.
		seconds := int64(math.Ceil(b.Window.Seconds()))
		quota := int64(math.Round(float64(b.Limit) * float64(seconds) * float64(time.Second) / float64(b.Window)))
		out[i] = bucket{
			limit:    b.Name,
			name:     strconv.Quote(name),
			item:     fmt.Sprintf("%q;q=%d;w=%d", name, quota, seconds),
			quota:    strconv.FormatInt(quota, 10),
			capacity: b.Burst,
		}
	}
	return out
}

// Answers to refused requests, when the policy has no body of its own.
const (
	deniedBody = "RBAC: access denied"
	// draft-ietf-httpapi-ratelimit-headers-11, problem type quota-exceeded.
	quotaExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"
)

func (r *rule) setBody(spec *policy.Rule) {
	r.body, r.contentType = spec.Response.Body, "text/plain; charset=utf-8"
	switch {
	case r.body != "":
		if json.Valid([]byte(r.body)) {
			r.contentType = "application/json"
		}
	case spec.Limit != nil:
		r.contentType = "application/problem+json"
		r.body = fmt.Sprintf(`{"type":%q,"title":"Request cannot be satisfied as assigned quota has been exceeded","status":%d,"violated-policies":[%q]}`,
			quotaExceeded, r.status, r.name)
	default:
		r.body = deniedBody
	}
}

// orderLimits puts limits that are only counted behind those that may refuse:
// a refused request then never touches their buckets.
func (r *rules) orderLimits() {
	slices.SortStableFunc(r.limits, func(a, b *rule) int {
		switch {
		case a.shadow == b.shadow:
			return 0
		case b.shadow:
			return -1
		}
		return 1
	})
}

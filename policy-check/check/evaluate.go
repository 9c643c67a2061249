package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// maxKeyBytes bounds a key: callers choose it.
const maxKeyBytes = 256

// evaluation is one request on its way through the rules.
type evaluation struct {
	checker *Checker
	source  source
	draw    float64 // of 100, the same for every policy
	out     Decision
}

// matches evaluates a condition. One that can't be evaluated does not match.
func (e *evaluation) matches(r *rule, p *expr.BoolProgram) bool {
	if p == nil {
		return true
	}
	ok, err := p.Eval(e.source)
	if err != nil {
		e.failed(r, err)
	}
	return ok
}

func (e *evaluation) failed(r *rule, err error) {
	r.counts.add(decisionError, lease.OriginLocal)
	r.errors.report(e.checker.log, e.checker.opts.Clock(), r.id, err)
}

// access runs the deny and the allow stage and tells whether the request may
// go on.
func (e *evaluation) access(r *rules) bool {
	for _, d := range r.deny {
		if !e.matches(d, d.match) {
			continue
		}
		if d.enforced(e.draw) {
			d.counts.add(decisionDeny, lease.OriginLocal)
			e.refuse(d, vocab.VerdictDenied, d.name, "rbac_access_denied_matched_policy["+d.id+"]")
			return false
		}
		d.counts.add(decisionShadowDeny, lease.OriginLocal)
		e.shadow(d, vocab.VerdictShadowDenied, d.name)
	}
	return len(r.allow) == 0 || e.allowed(r.allow)
}

// allowed is the allow stage: with Allow rules in force, one must match. Rules
// in shadow add to those in force, as they would once enforced, but a request
// that only they would refuse goes on.
func (e *evaluation) allowed(allow []*rule) bool {
	var inForce, inShadow *rule // the first of each, for the implicit deny
	var match *rule
	for _, r := range allow {
		enforced := r.enforced(e.draw)
		if enforced && inForce == nil {
			inForce = r
		}
		if !enforced && inShadow == nil {
			inShadow = r
		}
		// A match in force settles it; one in shadow only if nothing is in force.
		if (match == nil || !match.enforced(e.draw) && enforced) && e.matches(r, r.match) {
			match = r
		}
	}
	switch {
	case inForce != nil && (match == nil || !match.enforced(e.draw)):
		inForce.implicit.add(decisionDeny, lease.OriginLocal)
		e.refuse(inForce, vocab.VerdictDenied, policy.ImplicitDeny, "rbac_access_denied_matched_policy[none]")
		return false
	case match == nil:
		inShadow.implicit.add(decisionShadowDeny, lease.OriginLocal)
		e.shadow(inShadow, vocab.VerdictShadowDenied, policy.ImplicitDeny)
	case match.enforced(e.draw):
		match.counts.add(decisionAllow, lease.OriginLocal)
	default:
		match.counts.add(decisionShadowAllow, lease.OriginLocal)
	}
	return true
}

// taken is one credit that a request holds.
type taken struct {
	rule   *rule
	bucket *bucket
	key    string
	lease.Taken
}

// limits is the last stage: every limit that matches must have a credit. A
// request that one of them refuses gives back those of the others.
func (e *evaluation) limits(ctx context.Context, limits []*rule) {
	var room [4]taken
	held := room[:0]
	for _, r := range limits {
		if !e.matches(r, r.match) {
			continue
		}
		enforced := r.enforced(e.draw)
		key := e.key(r)
		first := len(held)
		var refusal taken
		var ok bool
		if held, refusal, ok = e.takeAll(ctx, r, key, held); ok {
			continue
		}
		if enforced {
			e.giveBack(held)
			r.counts.add(decisionThrottle, refusal.Origin)
			e.throttle(r, refusal)
			return
		}
		e.giveBack(held[first:])
		held = held[:first]
		r.counts.add(decisionShadowThrottle, refusal.Origin)
		e.shadow(r, vocab.VerdictShadowThrottled, r.name)
	}
	for i, t := range held {
		if i > 0 && held[i-1].rule == t.rule {
			continue // another rate of the same rule
		}
		if t.rule.enforced(e.draw) {
			t.rule.counts.add(decisionAllow, t.Origin)
		} else {
			t.rule.counts.add(decisionShadowAllow, t.Origin)
		}
	}
	e.out.Headers = e.admittedHeaders(held)
}

// takeAll takes a credit of each of the rule's rates.
func (e *evaluation) takeAll(ctx context.Context, r *rule, key string, held []taken) (all []taken, refusal taken, ok bool) {
	buckets := e.tier(r)
	for i := range buckets {
		t := taken{rule: r, bucket: &buckets[i], key: key}
		t.Taken = e.checker.opts.Leases.Take(ctx, t.bucket.limit, key)
		if !t.OK {
			return held, t, false
		}
		held = append(held, t)
	}
	return held, taken{}, true
}

func (e *evaluation) giveBack(held []taken) {
	for _, t := range held {
		e.checker.opts.Leases.Return(t.bucket.limit, t.key, t.Taken)
	}
}

// tier picks the rates: the first override that matches, else the rule's own.
func (e *evaluation) tier(r *rule) []bucket {
	last := len(r.tiers) - 1
	for i := range last {
		if e.matches(r, r.tiers[i].match) {
			return r.tiers[i].buckets
		}
	}
	return r.tiers[last].buckets
}

// key evaluates the rule's key expressions. One that can't be evaluated counts
// as empty: a caller must not escape a limit by leaving a header out.
func (e *evaluation) key(r *rule) string {
	switch len(r.keys) {
	case 0:
		return ""
	case 1:
		return bounded(e.keyPart(r, 0))
	}
	var b strings.Builder
	for i := range r.keys {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(escapeKey(e.keyPart(r, i)))
	}
	return bounded(b.String())
}

func (e *evaluation) keyPart(r *rule, i int) string {
	v, err := r.keys[i].Eval(e.source)
	if err != nil {
		e.failed(r, err)
	}
	return v
}

// escapeKey keeps the separator out of the parts, so that two lists of values
// never join to the same key.
func escapeKey(s string) string {
	if !strings.ContainsAny(s, `|\`) {
		return s
	}
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`).Replace(s)
}

// bounded replaces by its hash a key that is too long, that is not text and so
// could not travel to the hub, or that looks like a hash or like
// lease.OverflowKey.
func bounded(key string) string {
	if len(key) <= maxKeyBytes && utf8.ValidString(key) && !strings.HasPrefix(key, "#") && !strings.HasPrefix(key, lease.OverflowKey) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "#" + hex.EncodeToString(sum[:16])
}

// refuse ends the request with the rule's answer.
func (e *evaluation) refuse(r *rule, verdict, name, detail string) {
	e.out = Decision{Verdict: verdict, Policy: r.policy, Rule: name, Status: r.status, Body: r.body, ContentType: r.contentType, Detail: detail}
	if name == policy.ImplicitDeny {
		e.out.Status = 403
	}
}

func (e *evaluation) throttle(r *rule, t taken) {
	e.refuse(r, vocab.VerdictThrottled, r.name, "quota_exceeded["+r.id+"]")
	e.out.Headers = refusedHeaders(r, t)
}

// shadow notes the first refusal that was not enforced.
func (e *evaluation) shadow(r *rule, verdict, name string) {
	if e.out.Verdict == vocab.VerdictOK {
		e.out.Verdict, e.out.Policy, e.out.Rule = verdict, r.policy, name
	}
}

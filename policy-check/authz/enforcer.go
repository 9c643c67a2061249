package authz

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// Options are what code passes.
type Options struct {
	Workload Workload
	// TrustDomain is the mesh's, cluster.local if empty.
	TrustDomain string
	// Fetch gets key sets. It is needed only for rules with jwksUri.
	Fetch  jwt.Fetch
	Clock  func() time.Time
	Logger *slog.Logger
}

// Enforcer decides on the inbound requests of one workload. Safe for concurrent
// use. Close it when no request is decided any more.
type Enforcer struct {
	o       Options
	keys    *jwt.Store
	current atomic.Pointer[Rules]

	mu     sync.Mutex // guards the field below
	counts map[countKey]*counts
}

// New makes an enforcer without policies: everything is allowed.
func New(o Options) *Enforcer {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	e := &Enforcer{o: o, keys: jwt.NewStore(o.Fetch, o.Clock, o.Logger), counts: make(map[countKey]*counts)}
	e.current.Store(&Rules{})
	return e
}

// Use puts rules of Compile in force at once. It begins to fetch the keys that
// they need, without waiting for them.
func (e *Enforcer) Use(r *Rules) {
	e.current.Store(r)
	e.keys.Keep(r.sources)
}

// Close ends the fetching of keys and waits for it.
func (e *Enforcer) Close() { e.keys.Close() }

// Active tells whether there is anything to check.
func (e *Enforcer) Active() bool {
	r := e.current.Load()
	return r.authentication != nil || !r.http.empty()
}

// Waits tells whether Check may wait: for keys that have to be fetched.
func (e *Enforcer) Waits() bool {
	a := e.current.Load().authentication
	return a != nil && a.remote
}

// Decision is what to do with a request. It goes on if Status is 0.
type Decision struct {
	// Verdict is vocab.VerdictOK, VerdictDenied, VerdictShadowDenied or
	// VerdictAudited.
	Verdict string
	// Policy is the ID of the resource that made the verdict and Rule the number
	// of its rule from 0, or policy.ImplicitDeny; empty when the verdict is ok.
	Policy, Rule string
	// Status and Body answer a refused request. Challenge is the answer's
	// WWW-Authenticate, if it has one.
	Status          int
	Body, Challenge string
	// Detail is Envoy's response code detail.
	Detail string
}

// Refused tells whether the request must not go on.
func (d *Decision) Refused() bool { return d.Status != 0 }

// Check decides on one request and changes its headers as RequestAuthentication
// says. It waits at most for keys, as each rule's timeout allows.
func (e *Enforcer) Check(ctx context.Context, r *Request) Decision {
	rules := e.current.Load()
	v := view{Request: r}
	stages := &rules.http
	if r.TCP {
		stages = &rules.tcp
	} else if rules.authentication != nil {
		var d Decision
		if v.claims, d = rules.authentication.check(ctx, r); d.Refused() {
			return d
		}
	}
	if stages.empty() {
		return Decision{Verdict: vocab.VerdictOK}
	}
	path, normal, same := split(r.Path)
	v.path = normal
	o := stages.ask(&v)
	if !same && o.refusal == nil {
		// The application gets the path as it came and may read it either way, so
		// it must be allowed either way.
		v.path = path
		if raw := stages.ask(&v); raw.refusal != nil {
			o = raw
		}
	}
	return o.decision()
}

// opinion is the first rule of each stage that had something to say; nil without.
type opinion struct{ refusal, allow, shadowRefusal, shadowAllow, audit *rule }

func (s *stages) ask(v *view) (o opinion) {
	o.refusal = first(s.deny, v)
	if o.refusal == nil && s.implicit != nil {
		if o.allow = first(s.allow, v); o.allow == nil {
			o.refusal = s.implicit
		}
	}
	o.shadowRefusal = first(s.shadowDeny, v)
	if o.shadowRefusal == nil && s.shadowImplicit != nil {
		if o.shadowAllow = first(s.shadowAllow, v); o.shadowAllow == nil {
			o.shadowRefusal = s.shadowImplicit
		}
	}
	o.audit = first(s.audit, v)
	return o
}

// deniedBody is Envoy's.
const deniedBody = "RBAC: access denied"

// decision counts and says what the strongest opinion is.
func (o *opinion) decision() Decision {
	d := Decision{Verdict: vocab.VerdictOK}
	if o.audit != nil {
		o.audit.counts.add(audited)
		d.Verdict, d.Policy, d.Rule = vocab.VerdictAudited, o.audit.policy, o.audit.name
	}
	if o.shadowAllow != nil {
		o.shadowAllow.counts.add(shadowAllowed)
	}
	if o.shadowRefusal != nil {
		o.shadowRefusal.counts.add(shadowDenied)
		d.Verdict, d.Policy, d.Rule = vocab.VerdictShadowDenied, o.shadowRefusal.policy, o.shadowRefusal.name
	}
	if o.allow != nil {
		o.allow.counts.add(allowed)
	}
	if o.refusal != nil {
		o.refusal.counts.add(denied)
		d = Decision{
			Verdict: vocab.VerdictDenied, Policy: o.refusal.policy, Rule: o.refusal.name,
			Status: 403, Body: deniedBody, Detail: o.refusal.detail,
		}
	}
	return d
}

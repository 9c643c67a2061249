// Package extauthz decides for Envoy: it answers envoy.service.auth.v3 with the
// access rules of the traffic policies that target the destination service.
// docs/envoy-ext-authz.md says how to configure Envoy for it. It is the only
// package that speaks Envoy's authorization API.
package extauthz

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/check"
)

// DefaultCacheTTL is for how long an answer may be cached. It is also how long a
// cache may go on with policies that have changed.
const DefaultCacheTTL = 5 * time.Second

// Options are what code passes. All have defaults.
type Options struct {
	CacheTTL time.Duration
	Clock    func() time.Time
	Logger   *slog.Logger
	// Rand draws from [0, 1) for enforcePercent.
	Rand func() float64
}

// Server answers Envoy's authorization requests. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	opts    Options
	current atomic.Pointer[map[service]*target]

	mu      sync.Mutex // guards the field below, and SetPolicies
	targets map[service]*target

	allowed, denied, invalid atomic.Uint64
}

// service names a destination; with an empty name, every service of the
// namespace that no policy names.
type service struct{ namespace, name string }

// target is the access rules of one destination. It stays when its policies are
// gone, because its counters never fall: the memory is bounded by the services
// that policies ever named.
type target struct {
	checker *check.Checker
	version string                         // of what the checker has; guarded by Server.mu
	cache   atomic.Pointer[structpb.Value] // nil when no answer may be cached
}

// NewServer makes a server without policies: everything is allowed.
func NewServer(o Options) *Server {
	if o.CacheTTL == 0 {
		o.CacheTTL = DefaultCacheTTL
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, targets: make(map[service]*target)}
	s.current.Store(&map[service]*target{})
	return s
}

// SetPolicies puts the inbound access rules of the policies in force. After an
// error the old ones stay.
func (s *Server) SetPolicies(ps []*policy.TrafficPolicy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := accessOnly(ps)
	changed := make(map[service]string) // version by target
	next := make(map[service]*target)
	for name, version := range versions(rules) {
		next[name] = s.targets[name]
		if next[name] != nil && next[name].version == version {
			continue // compiling a thousand services takes a second
		}
		changed[name] = version
		// All are compiled before the first is in force.
		if err := s.newChecker(name).Apply(rules); err != nil {
			return err
		}
	}
	for name, version := range changed {
		t := next[name]
		if t == nil {
			t = &target{checker: s.newChecker(name)}
			s.targets[name], next[name] = t, t
		}
		if err := t.checker.Apply(rules); err != nil {
			return err
		}
		t.version = version
		t.cache.Store(s.cacheable(t.checker))
	}
	s.current.Store(&next)
	return nil
}

// versions is what the policies' targets are decided by, as text that changes
// with any of it.
func versions(rules []*policy.TrafficPolicy) map[service]string {
	out := make(map[service]string)
	for _, p := range rules {
		for _, ref := range p.Spec.TargetRefs {
			name := service{namespace: p.Metadata.Namespace}
			if ref.Kind == policy.TargetService {
				name.name = ref.Name
			}
			out[name] = ""
		}
	}
	for _, p := range rules {
		version := p.ID() + "@" + p.Version() + " "
		for name := range out {
			if p.Applies(name.namespace, name.name) {
				out[name] += version
			}
		}
	}
	return out
}

func (s *Server) newChecker(name service) *check.Checker {
	return check.New(check.Options{
		Namespace: name.namespace, Service: name.name, Clock: s.opts.Clock, Logger: s.opts.Logger, Rand: s.opts.Rand,
	})
}

// accessOnly is the policies without their limits, which Envoy asks for
// elsewhere and which an answer must not spend.
func accessOnly(ps []*policy.TrafficPolicy) []*policy.TrafficPolicy {
	var out []*policy.TrafficPolicy
	for _, p := range ps {
		if p.Spec.Side != policy.SideInbound || p.Spec.Mode == policy.ModeDisabled {
			continue
		}
		mine := *p
		mine.Spec.Rules = nil
		for _, r := range p.Spec.Rules {
			if r.Access != nil {
				mine.Spec.Rules = append(mine.Spec.Rules, r)
			}
		}
		if len(mine.Spec.Rules) > 0 {
			out = append(out, &mine)
		}
	}
	return out
}

// Check implements authv3.AuthorizationServer. A refusal is an answer; an error
// means that there is none, and Envoy's failure_mode_allow decides.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	name, err := destination(req.GetAttributes())
	if err != nil {
		s.invalid.Add(1)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	targets := *s.current.Load()
	t := targets[name]
	if t == nil {
		t = targets[service{namespace: name.namespace}]
	}
	decision, cache := check.Decision{}, s.always()
	if t != nil {
		decision, cache = t.checker.Check(ctx, check.Inbound, attributes(req.GetAttributes(), name)), t.cache.Load()
	}
	if decision.Refused() {
		s.denied.Add(1)
	} else {
		s.allowed.Add(1)
	}
	return response(&decision, cache), nil
}

// Stats is what the server has answered.
type Stats struct {
	Allowed, Denied uint64
	// Invalid counts requests that name no destination.
	Invalid uint64
	// Rules count what single rules did, ordered by policy and rule.
	Rules []check.Counter
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	out := Stats{Allowed: s.allowed.Load(), Denied: s.denied.Load(), Invalid: s.invalid.Load()}
	sums := make(map[check.Counter]uint64) // by everything but the count
	s.mu.Lock()
	for _, t := range s.targets {
		for _, c := range t.checker.Counters() {
			n := c.Count
			c.Count = 0
			sums[c] += n
		}
	}
	s.mu.Unlock()
	for c, n := range sums {
		c.Count = n
		out.Rules = append(out.Rules, c)
	}
	slices.SortFunc(out.Rules, func(a, b check.Counter) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Decision, b.Decision))
	})
	return out
}

package hub

import (
	"context"
	"log/slog"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/extauthz"
	"github.com/telemesh/telemesh/policy-check/folder"
	"github.com/telemesh/telemesh/policy-check/ratelimit"
	"github.com/telemesh/telemesh/telemetry-hub/metrics"
)

// envoy is what the hub serves to Envoy fleets.
type envoy struct {
	// domains and limits are nil without --ratelimit-config, authorization
	// without --policy-dir: an Envoy that asks nevertheless is told that the
	// service does not exist, not that everything is allowed.
	domains       *folder.Directory[*ratelimit.Domain]
	limits        *ratelimit.Server
	authorization *extauthz.Server
}

// openEnvoy reads the rate limits. A file with an error is logged.
func (h *Hub) openEnvoy() {
	if h.config.PolicyDir != "" {
		h.envoy.authorization = extauthz.NewServer(extauthz.Options{Logger: h.log})
		metrics.RegisterAuthorization(h.metrics, h.envoy.authorization.Stats)
	}
	c := h.config.RateLimit
	if c.Dir == "" {
		return
	}
	e := &h.envoy
	e.limits = ratelimit.NewServer(ratelimit.Options{MaxKeys: c.MaxKeys, Overflow: c.Overflow, Headers: c.Headers})
	e.domains = folder.New(c.Dir, ratelimit.Format(), h.log, nil)
	if err := e.domains.Load(); err != nil {
		h.log.Error("some rate limit files are refused, the others are in force", "error", err)
	}
	e.setDomains()
	metrics.RegisterRateLimit(h.metrics, e.limits.Stats, func() (accepted, refused uint64) {
		s := e.domains.Snapshot()
		return s.Accepted, s.Refused
	})
}

func (e *envoy) setDomains() {
	var ds []*ratelimit.Domain
	for _, l := range e.domains.Snapshot().Loaded {
		ds = append(ds, l.Value)
	}
	e.limits.SetDomains(ds)
}

func (e *envoy) setPolicies(ps []*policy.TrafficPolicy, log *slog.Logger) {
	if err := e.authorization.SetPolicies(ps); err != nil {
		log.Error("policies do not apply to Envoy's authorization, the last ones stay in force", "error", err)
	}
}

func (e *envoy) register(s grpc.ServiceRegistrar) {
	if e.limits != nil {
		rlsv3.RegisterRateLimitServiceServer(s, e.limits)
	}
	if e.authorization != nil {
		authv3.RegisterAuthorizationServer(s, e.authorization)
	}
}

// run follows the files until ctx ends.
func (e *envoy) run(ctx context.Context, group *errgroup.Group) {
	if e.limits == nil {
		return
	}
	group.Go(func() error { return e.limits.Run(ctx) })
	group.Go(func() error { return e.domains.Run(ctx) })
	group.Go(func() error {
		changed, cancel := e.domains.Subscribe()
		defer cancel()
		e.setDomains() // a change before the subscription
		for {
			select {
			case <-changed:
				e.setDomains()
			case <-ctx.Done():
				return nil
			}
		}
	})
}

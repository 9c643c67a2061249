package ratelimit

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	policy "github.com/telemesh/telemesh/policy-check"
)

const (
	// DefaultMaxKeys takes up to 30 MB.
	DefaultMaxKeys = 1_000_000

	// Bounds of one request: Envoy sends one descriptor for each rate limit of
	// a route, and one entry for each of its actions.
	maxDescriptors = 1000
	maxEntries     = 100

	tidyEvery = time.Second
	// tidySlots of each shard: a million in all, some milliseconds a second.
	tidySlots = 1024
)

// Options are what code passes. All have defaults.
type Options struct {
	// MaxKeys bounds the keys whose windows are remembered. Overflow says what
	// becomes of hits on others: policy.OverflowSharedBucket (the default)
	// counts those of a rule together, policy.OverflowAllow admits and
	// policy.OverflowDeny refuses them.
	MaxKeys  int
	Overflow string
	// Headers adds RateLimit-Limit, -Remaining and -Reset to answers.
	Headers bool
	Clock   func() time.Time
	Logger  *slog.Logger
}

// Server answers Envoy's rate limit requests. It is safe for concurrent use.
type Server struct {
	rlsv3.UnimplementedRateLimitServiceServer

	opts       Options
	counters   *counters
	series     *series
	unknown    *requestCounts
	overflowed atomic.Uint64
	current    atomic.Pointer[map[string]*served] // nil before the first domain
}

// served is a domain in force with its counters.
type served struct {
	*Domain
	requests *requestCounts
	hits     []*hitCounts // by rule.index
	// override counts hits on limits that requests bring along.
	override *hitCounts
}

// overrideRule names the limits that requests bring along in metrics.
const overrideRule = "override"

// NewServer makes a server without a domain: it answers UNAVAILABLE until
// SetDomains has brought one.
func NewServer(o Options) *Server {
	if o.MaxKeys == 0 {
		o.MaxKeys = DefaultMaxKeys
	}
	if o.Overflow == "" {
		o.Overflow = policy.OverflowSharedBucket
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, counters: newCounters(o.MaxKeys), series: newSeries()}
	s.unknown = s.series.requestsOf(UnknownDomain)
	return s
}

// SetDomains replaces the domains. Windows go on: a limit that changed applies
// to what its window has counted.
func (s *Server) SetDomains(ds []*Domain) {
	if len(ds) == 0 && s.current.Load() == nil {
		return
	}
	next := make(map[string]*served, len(ds))
	for _, d := range ds {
		one := &served{Domain: d, requests: s.series.requestsOf(d.Name), hits: make([]*hitCounts, len(d.rules))}
		for i, r := range d.rules {
			one.hits[i] = s.series.hitsOf(d.Name, r.path)
		}
		one.override = s.series.hitsOf(d.Name, overrideRule)
		next[d.Name] = one
	}
	s.current.Store(&next)
}

// Run forgets keys whose windows have ended, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.counters.tidy(s.opts.Clock().Unix(), tidySlots)
		case <-ctx.Done():
			return nil
		}
	}
}

// ShouldRateLimit implements rlsv3.RateLimitServiceServer.
func (s *Server) ShouldRateLimit(_ context.Context, req *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	domains := s.current.Load()
	if domains == nil {
		s.unknown.unavailable.Add(1)
		return nil, status.Error(codes.Unavailable, "no rate limit configuration is loaded: put a YAML file with a domain into the hub's --ratelimit-config directory, its log says what is wrong with those that are there")
	}
	d := (*domains)[req.GetDomain()]
	requests := s.unknown
	if d != nil {
		requests = d.requests
	}
	if err := validate(req); err != nil {
		requests.invalid.Add(1)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a := answer{server: s, request: req, domain: d, now: s.opts.Clock().Unix()}
	resp := a.respond()
	if resp.GetOverallCode() == rlsv3.RateLimitResponse_OVER_LIMIT {
		requests.overLimit.Add(1)
	} else {
		requests.ok.Add(1)
	}
	return resp, nil
}

// validate says what is wrong with a request. Envoy sends none of these.
func validate(req *rlsv3.RateLimitRequest) error {
	switch {
	case req.GetDomain() == "":
		return fmt.Errorf("rate limit request has no domain: set it in Envoy's rate limit filter")
	case len(req.GetDescriptors()) == 0:
		return fmt.Errorf("rate limit request has no descriptors: give the route rate limit actions")
	case len(req.GetDescriptors()) > maxDescriptors:
		return fmt.Errorf("rate limit request has %d descriptors, at most %d", len(req.GetDescriptors()), maxDescriptors)
	}
	for i, d := range req.GetDescriptors() {
		if len(d.GetEntries()) > maxEntries {
			return fmt.Errorf("descriptor %d has %d entries, at most %d", i, len(d.GetEntries()), maxEntries)
		}
		if o := d.GetLimit(); o != nil && windowSeconds(rlsv3.RateLimitResponse_RateLimit_Unit(o.GetUnit())) == 0 {
			return fmt.Errorf("descriptor %d brings a limit of unit %v: use SECOND to YEAR", i, o.GetUnit())
		}
	}
	return nil
}

// hitsOf is what a descriptor adds: its own hits_addend, which may be 0 to look
// only, else the request's, which is 1 if it is not given.
func hitsOf(req *rlsv3.RateLimitRequest, d *commonv3.RateLimitDescriptor) hit {
	h := hit{n: uint64(max(req.GetHitsAddend(), 1)), refill: d.GetIsNegativeHits()}
	if own := d.GetHitsAddend(); own != nil {
		h.n = own.GetValue()
	}
	return h
}

// limit is what applies to one descriptor of a request.
type limit struct {
	match
	limit *rlsv3.RateLimitResponse_RateLimit // nil for none or unlimited
	hits  *hitCounts
}

// appendKey is what a descriptor counts under: domain, unit and entries, each
// with its length, so that no two join to the same bytes. The unit is in it
// because windows of two units are two windows.
func (l *limit) appendKey(dst []byte, domain string, entries []*commonv3.RateLimitDescriptor_Entry) []byte {
	dst = append(dst, byte(l.limit.GetUnit()))
	dst = appendText(dst, domain)
	for i, e := range entries {
		dst = appendText(dst, e.GetKey())
		dst = appendText(dst, l.counted(i, e.GetValue()))
	}
	return dst
}

// appendOverflowKey is what the keys of a rule beyond the most keys count under.
func (l *limit) appendOverflowKey(dst []byte, domain string) []byte {
	dst = append(dst, 0xff, byte(l.limit.GetUnit())) // no unit is 0xff
	dst = appendText(dst, domain)
	if l.rule != nil {
		dst = appendText(dst, l.rule.path)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

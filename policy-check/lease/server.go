package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
)

// maxDemands bounds one pull.
const maxDemands = 10_000

// ServerOptions are what code passes. All have defaults.
type ServerOptions struct {
	Clock   func() time.Time
	Horizon time.Duration
	Logger  *slog.Logger
}

// Server grants credits: the hub's end. It is safe for concurrent use.
type Server struct {
	policyv1.UnimplementedLeaseServiceServer

	clock   func() time.Time
	start   time.Time
	horizon time.Duration
	log     *slog.Logger

	limits atomic.Pointer[map[string]*limit]

	mu       sync.Mutex // guards the fields below
	sessions map[string]*session
	lastID   uint64 // of a session
	streams  int
}

// NewServer makes a server that knows no limit yet.
func NewServer(o ServerOptions) *Server {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Horizon == 0 {
		o.Horizon = DefaultHorizon
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{clock: o.Clock, start: o.Clock(), horizon: o.Horizon, log: o.Logger, sessions: make(map[string]*session)}
	s.limits.Store(&map[string]*limit{})
	return s
}

// SetPolicies replaces the limits. One that did not change keeps its buckets.
func (s *Server) SetPolicies(ps []*policy.TrafficPolicy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.limits.Load()
	limits := make(map[string]*limit)
	for _, p := range ps {
		if p.Spec.Mode == policy.ModeDisabled {
			continue
		}
		for _, b := range p.AllBuckets() {
			if b.Scope != policy.ScopeMesh {
				continue
			}
			if l, ok := old[b.Name]; ok && l.bucket == b {
				limits[b.Name] = l
				continue
			}
			limits[b.Name] = newLimit(b, s.horizon)
		}
	}
	s.limits.Store(&limits)
}

// Pull implements policyv1.LeaseServiceServer.
func (s *Server) Pull(stream grpc.BidiStreamingServer[policyv1.PullRequest, policyv1.PullResponse]) error {
	s.countStream(1)
	defer s.countStream(-1)
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive pull: %w", err)
		}
		resp, err := s.Answer(req)
		if err != nil {
			s.log.Warn("pull refused", "sidecar", req.GetSidecar(), "error", err)
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if err := stream.Send(resp); err != nil {
			return fmt.Errorf("answer pull: %w", err)
		}
	}
}

func (s *Server) countStream(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += by
}

// now is nanoseconds since the server began.
func (s *Server) now() float64 { return float64(s.clock().Sub(s.start)) }

// Answer grants what can be granted: Pull does this for each message. A sequence
// that was answered before gets the same answer, which must not be changed. An
// error tells what is wrong with the request.
func (s *Server) Answer(req *policyv1.PullRequest) (*policyv1.PullResponse, error) {
	switch {
	case req.GetSidecar() == "":
		return nil, errors.New("pull names no sidecar")
	case len(req.GetDemands()) > maxDemands:
		return nil, fmt.Errorf("%d demands in one pull, at most %d", len(req.GetDemands()), maxDemands)
	}
	now := s.now()
	ss, err := s.session(req, now)
	if err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if resp, old := ss.answered(req.GetSequence()); old {
		return resp, nil
	}
	resp := &policyv1.PullResponse{Sequence: req.GetSequence(), Grants: make([]*policyv1.Grant, 0, len(req.GetDemands()))}
	limits := *s.limits.Load()
	for _, d := range req.GetDemands() {
		l, ok := limits[d.GetLimit()]
		if !ok {
			resp.Grants = append(resp.Grants, &policyv1.Grant{Limit: d.GetLimit(), Key: d.GetKey(), UnknownLimit: true})
			continue
		}
		resp.Grants = append(resp.Grants, l.grant(now, ss.id, d))
	}
	ss.remember(resp)
	return resp, nil
}

// Stats is what the hub's metrics show of the leases.
type Stats struct {
	Limits []LimitStats
	// Streams are the sidecars connected.
	Streams int
}

// LimitStats is one limit. Granted is cumulative while the limit stays as it is.
type LimitStats struct {
	Limit   string
	Granted uint64
	// Overflowed counts demands on keys beyond maxKeys.
	Overflowed uint64
	Keys       int
	// Outstanding is the credits that sidecars may still spend.
	Outstanding int64
}

// Stats reads the counters of every limit, in no order.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	out := Stats{Streams: s.streams}
	s.mu.Unlock()
	now := s.now()
	for _, l := range *s.limits.Load() {
		out.Limits = append(out.Limits, l.stats(now))
	}
	return out
}

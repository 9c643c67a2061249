package proxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/authz"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/accesslog"
	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/propagation"
	"github.com/telemesh/telemesh/proxy/report"
	"github.com/telemesh/telemesh/proxy/route"
)

// checker decides locally on one request.
type checker interface {
	Check(ctx context.Context, side check.Side, a *check.Attributes) check.Decision
	// Waits reports whether Check may wait for the hub.
	Waits() bool
	// Rules reports whether there is anything to check on a side.
	Rules(side check.Side) bool
}

// authorizer decides by Istio's access policies.
type authorizer interface {
	Check(ctx context.Context, r *authz.Request) authz.Decision
	// Waits reports whether Check may wait, for the keys of tokens.
	Waits() bool
	// Active reports whether there is anything to check.
	Active() bool
}

// pipeline is the way of a request through the sidecar, in the order in which
// the code is read: identify peer, request ID and trace context, local policy,
// route, pick endpoint, (the engine forwards), observe.
type pipeline struct {
	self       *identity.Peer
	selfSecure *identity.Peer // with the principal, as callers over mutual TLS see it
	selfHeader string
	selfHost   string // fully qualified service of the workload
	selfRoute  string
	appAddress string
	// appDestination is appAddress for policies.
	appDestination netip.AddrPort
	appSpeaks      exchange.Protocol // Same: as the caller does
	peers          *identity.Cache
	routes         *route.Table
	policy         checker
	access         authorizer
	store          *report.Store
	accessLog      *accesslog.Log // nil when nobody asked for one
	// appUnreachable is told when the application refuses a connection.
	appUnreachable func(detail string)
}

// Begin implements exchange.Handler.
func (p *pipeline) Begin(ctx context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	service := p.identify(x)
	propagation.Stamp(x)
	if reply := p.authorize(ctx, x); reply != nil {
		return exchange.Target{}, reply
	}
	if reply := p.check(ctx, x); reply != nil {
		return exchange.Target{}, reply
	}
	if x.Direction == exchange.Inbound {
		return p.toApplication(x)
	}
	return p.toEndpoint(x, service)
}

// Waits implements exchange.Handler.
func (p *pipeline) Waits() bool { return p.policy.Waits() || p.access.Waits() }

// Retry implements exchange.Handler: another endpoint, if the service's retry
// policy and budget allow it.
func (p *pipeline) Retry(x *exchange.Exchange, failed exchange.Outcome) (exchange.Target, bool) {
	a := &x.Attempt
	tried, ok := a.Endpoint.(*cluster.Endpoint)
	if !ok {
		return exchange.Target{}, false
	}
	next, ok := tried.Retry(failed, cluster.Key{Hash: a.Hash, HasHash: a.HasHash, Attempt: a.Number})
	if !ok {
		a.Exhausted = a.Number > 0
		return exchange.Target{}, false
	}
	a.Endpoint = next
	a.Number++
	x.Destination = next.Peer
	t := target(x, next)
	// What failed this very moment is likely to fail again at once.
	t.Backoff = next.Cluster().Backoff(a.Number)
	return t, true
}

// target sends a request to an endpoint, as its service's settings say.
func target(x *exchange.Exchange, e *cluster.Endpoint) exchange.Target {
	c := e.Cluster()
	t := exchange.Target{Address: e.Address, TLS: e.TLS, Endpoint: e, Timeouts: c.Timeouts(), Limits: c.Limits()}
	// What goes on in another protocol needs a connection of its own.
	if c.UpgradeHTTP2() && !x.Switches && x.Record.Method != "CONNECT" {
		t.Protocol = exchange.HTTP2
	}
	return t
}

// identify names both ends. The peer header is taken off in both directions:
// it is the mesh's, and an application's claim counts for nothing.
func (p *pipeline) identify(x *exchange.Exchange) *route.Service {
	header := x.Request.Get(vocab.HeaderPeer)
	x.Request.Del(vocab.HeaderPeer)
	if x.Direction == exchange.Inbound {
		x.Destination, x.DestinationService = p.self, p.selfHost
		if x.Principal != "" {
			x.Destination = p.selfSecure
		}
		x.Record.Route = p.selfRoute
		if x.Source = p.peers.Verified(header, x.Principal); x.Source == nil {
			x.Source = &unknown
			return nil
		}
		x.Meshed = header != ""
		return nil
	}
	x.Source, x.Security = p.self, vocab.Unknown
	service, ok := p.service(x)
	if !ok {
		// One node for everything outside: a host name that a caller chose
		// must not become a label.
		x.Destination = &outside
		x.DestinationService = passthrough
		x.Record.Route = passthrough
		return nil
	}
	x.Destination = service.Peer
	x.DestinationService = service.Host
	x.Record.Route = service.Route
	return service
}

// service is whom an outbound exchange is for. A captured connection says it by
// the virtual address that it was going to, if its bytes do not.
func (p *pipeline) service(x *exchange.Exchange) (*route.Service, bool) {
	service, ok := p.routes.Lookup(x.Record.Host)
	if ok || !x.OriginalDestination.IsValid() {
		return service, ok
	}
	if service, ok = p.routes.ByAddress(x.OriginalDestination.Addr()); ok && x.Record.Host == x.OriginalDestination.String() {
		// The bytes said nothing, and the address says nothing to a reader.
		x.Record.Host = net.JoinHostPort(service.Host, strconv.Itoa(int(x.OriginalDestination.Port())))
	}
	return service, ok
}

// check asks the local policy and turns a refusal into an answer.
func (p *pipeline) check(ctx context.Context, x *exchange.Exchange) *exchange.Reply {
	side := check.Inbound
	if x.Direction == exchange.Outbound {
		side = check.Outbound
	}
	if !p.policy.Rules(side) {
		return nil
	}
	began := netio.Now()
	// The whole path: a record's is cut, and who knows where could get past a rule.
	d := p.policy.Check(ctx, side, &check.Attributes{
		Method: x.Record.Method, Path: cmp.Or(x.Target, x.Record.Path), Host: cmp.Or(x.Authority, x.Record.Host), Scheme: x.Scheme, Protocol: x.Record.HTTPVersion,
		UserAgent: x.Record.UserAgent, RequestID: propagation.RequestID(x), Header: x.Request.Get,
		Source: policyPeer(x.Source), Destination: policyPeer(x.Destination), SourceAddress: x.Downstream,
	})
	took := x.Decision.Duration + time.Duration(netio.Now()-began)
	if d.Policy != "" || x.Decision.Verdict == "" {
		x.Decision = exchange.Decision{Verdict: vocab.VerdictOK, Policy: d.Policy, Rule: d.Rule}
	}
	x.Decision.Duration = took
	// What an access policy said before stands unless this says more.
	if d.Verdict != "" && d.Verdict != vocab.VerdictOK {
		x.Record.Verdict, x.Decision.Verdict, x.Record.Rule = d.Verdict, d.Verdict, d.Policy+"/"+d.Rule
	}
	for _, h := range d.Headers {
		x.ResponseHeaders = append(x.ResponseHeaders, exchange.Field{Name: h.Name, Value: h.Value})
	}
	switch d.Verdict {
	case vocab.VerdictDenied:
		x.Record.Detail = d.Detail // Envoy has no flag for its own RBAC
	case vocab.VerdictThrottled:
		x.Fail(vocab.FlagRateLimited, d.Detail)
	default:
		return nil
	}
	return &exchange.Reply{Status: d.Status, ContentType: d.ContentType, Body: d.Body}
}

func policyPeer(p *identity.Peer) check.Peer {
	return check.Peer{Cluster: p.Cluster, Namespace: p.Namespace, Workload: p.Workload, Service: p.Service, Version: p.Version, Principal: p.Principal}
}

func (p *pipeline) toApplication(x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	if p.appAddress == "" {
		x.Fail(vocab.FlagNoRoute, "route_not_found")
		return exchange.Target{}, &exchange.Reply{Status: http404, ContentType: "text/plain", Body: "this workload serves nothing: its sidecar was started without --app-address\n"}
	}
	return exchange.Target{Address: p.appAddress, Protocol: p.appSpeaks}, nil
}

// Statuses of the sidecar's own answers.
const (
	http404 = 404
	http503 = 503
)

// toEndpoint picks an endpoint of the mesh, or passes a request for another
// host through if its URL or its Host named a full address.
func (p *pipeline) toEndpoint(x *exchange.Exchange, service *route.Service) (exchange.Target, *exchange.Reply) {
	if service == nil {
		return p.passThrough(x)
	}
	key, setCookie := service.Key(x, x.Record.Path)
	endpoint, err := service.Pick(key)
	if err != nil {
		return exchange.Target{}, unavailable(x, service, err)
	}
	if setCookie != "" {
		x.ResponseHeaders = append(x.ResponseHeaders, exchange.Field{Name: setCookieHeader, Value: setCookie})
	}
	x.Destination = endpoint.Peer
	x.Attempt.Endpoint, x.Attempt.Hash, x.Attempt.HasHash, x.Attempt.Number = endpoint, key.Hash, key.HasHash, 0
	x.Request.Set(vocab.HeaderPeer, p.selfHeader)
	return target(x, endpoint), nil
}

// unavailable answers a request that no endpoint can have.
func unavailable(x *exchange.Exchange, service *route.Service, err error) *exchange.Reply {
	reply := &exchange.Reply{Status: http503, ContentType: "text/plain"}
	if errors.Is(err, cluster.ErrOverflow) {
		x.Fail(vocab.FlagUpstreamOverflow, "upstream_reset_before_response_started{overflow}")
		reply.Body = "upstream overflow: too many requests to " + service.Host + " are under way\n"
		reply.Headers = []exchange.Field{{Name: "x-envoy-overloaded", Value: "true"}}
		return reply
	}
	x.Fail(vocab.FlagNoHealthyUpstream, "no_healthy_upstream")
	if service.Empty() {
		reply.Body = "no healthy upstream: service " + service.Host + " has no sidecar in the registry; is it running? (meshctl status)\n"
	} else {
		reply.Body = "no healthy upstream: every endpoint of " + service.Host + " failed too often and is left out for a while\n"
	}
	return reply
}

func (p *pipeline) passThrough(x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	if capture.IsVirtual(x.OriginalDestination.Addr()) {
		x.Fail(vocab.FlagNoRoute, "route_not_found")
		return exchange.Target{}, &exchange.Reply{
			Status: http404, ContentType: "text/plain",
			Body: "no service has the virtual address " + x.OriginalDestination.Addr().String() + " any more; meshctl status lists the services\n",
		}
	}
	if x.OriginalDestination.IsValid() {
		return exchange.Target{Address: x.OriginalDestination.String()}, nil
	}
	host, port, err := net.SplitHostPort(x.Record.Host)
	if err != nil {
		host, port = strings.Trim(x.Record.Host, "[]"), "80"
	}
	// A bare name that no service has is a misspelling far more often than a
	// host of the search domain: say so instead of waiting for DNS.
	if host == "" || net.ParseIP(host) == nil && !strings.Contains(host, ".") && host != "localhost" {
		x.Fail(vocab.FlagNoRoute, "route_not_found")
		return exchange.Target{}, &exchange.Reply{
			Status: http404, ContentType: "text/plain",
			Body: "no service " + host + " in the mesh; meshctl status lists the services\n",
		}
	}
	return exchange.Target{Address: net.JoinHostPort(host, port)}, nil
}

// Respond implements exchange.Handler: the mesh's own headers of an answer. Two
// sidecars tell each other who answered and what policy said; an application on
// either end never sees it, and what one claims is taken off.
func (p *pipeline) Respond(x *exchange.Exchange) {
	h := x.Response
	peer, verdict := h.Get(vocab.HeaderPeer), h.Get(vocab.HeaderVerdict)
	h.Del(vocab.HeaderPeer)
	h.Del(vocab.HeaderVerdict)
	if x.Direction == exchange.Outbound {
		p.learn(x, peer, verdict)
	} else if x.Meshed {
		h.Set(vocab.HeaderPeer, p.selfHeader)
		if x.Record.Verdict != vocab.VerdictOK {
			h.Set(vocab.HeaderVerdict, x.Record.Verdict+";"+x.Record.Rule)
		}
	}
	if h.Get(vocab.HeaderRequestID) == "" {
		h.Set(vocab.HeaderRequestID, propagation.RequestID(x))
	}
	for _, f := range x.ResponseHeaders {
		if f.Name == setCookieHeader { // the application may set others
			h.Add(f.Name, f.Value)
			continue
		}
		h.Set(f.Name, f.Value)
	}
}

// learn takes over what the callee's sidecar said of itself and of its policy.
func (p *pipeline) learn(x *exchange.Exchange, peer, verdict string) {
	if peer == "" || x.DestinationService == passthrough {
		return // outside the mesh: its headers mean nothing here
	}
	known := p.peers.Verified(peer, x.Destination.Principal)
	if known == nil {
		return
	}
	x.Destination = known
	said, rule, _ := strings.Cut(verdict, ";")
	switch said {
	case vocab.VerdictDenied, vocab.VerdictThrottled, vocab.VerdictShadowDenied, vocab.VerdictShadowThrottled, vocab.VerdictAudited:
		if x.Record.Verdict == vocab.VerdictOK {
			x.Record.Verdict, x.Record.Rule = strings.Clone(said), strings.Clone(report.BytesLimit(rule, maxRule))
		}
	}
}

// setCookieHeader carries the cookie that keeps a caller with its endpoint.
const setCookieHeader = "set-cookie"

// passthrough is Envoy's name for what no service of the mesh serves.
const passthrough = "PassthroughCluster"

// The ends of edges that the mesh does not know.
var (
	unknown = identity.Unknown()
	outside = identity.Peer{Service: passthrough, Workload: vocab.Unknown, Namespace: vocab.Unknown, Cluster: vocab.Unknown}
)

// maxRule bounds a rule's name from another sidecar.
const maxRule = 256

// End implements exchange.Handler.
func (p *pipeline) End(x *exchange.Exchange) {
	if x.Direction == exchange.Inbound && x.Record.Flags == vocab.FlagUpstreamConnect {
		p.appUnreachable("connection to " + x.Record.Upstream + " refused")
	}
	if x.Attempt.Exhausted && x.Record.Flags != "" {
		x.Record.Flags += "," + vocab.FlagRetryLimit
	}
	p.store.Observe(x)
	if p.accessLog != nil {
		p.accessLog.Log(x)
	}
}

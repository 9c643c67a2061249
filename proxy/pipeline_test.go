package proxy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/authz"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
	"github.com/telemesh/telemesh/proxy/route"
)

type fakePolicy check.Decision

func (f fakePolicy) Waits() bool           { return false }
func (f fakePolicy) Rules(check.Side) bool { return true }

func (f fakePolicy) Check(context.Context, check.Side, *check.Attributes) check.Decision {
	return check.Decision(f)
}

var (
	self  = identity.Peer{Namespace: "default", Workload: "a-v1", Service: "a"}
	other = identity.Peer{Namespace: "default", Workload: "b-v1", Service: "b"}
)

func newPipeline(d check.Decision, services ...*discoveryv1.Service) *pipeline {
	p := &pipeline{self: &self, selfSecure: &self, selfHeader: self.Header(), appAddress: "127.0.0.1:1", peers: &identity.Cache{}, routes: route.NewTable("default", "local", nil, nil), policy: fakePolicy(d), access: authz.New(authz.Options{})}
	p.routes.Set(services)
	return p
}

func newExchange(d exchange.Direction, host string) *exchange.Exchange {
	x := &exchange.Exchange{Direction: d, Request: new(exchange.Fields), Response: new(exchange.Fields)}
	x.Record.Host, x.Record.Verdict = host, vocab.VerdictOK
	return x
}

func TestPipelineAnswersWhatItCannotRoute(t *testing.T) {
	p := newPipeline(check.Decision{}, &discoveryv1.Service{Name: "b", Namespace: "default", Host: "b.default.svc.cluster.local"})
	for host, want := range map[string]struct {
		status int
		flag   string
	}{"misspelt": {404, vocab.FlagNoRoute}, "b": {503, vocab.FlagNoHealthyUpstream}} {
		x := newExchange(exchange.Outbound, host)
		_, reply := p.Begin(t.Context(), x)
		if reply == nil || reply.Status != want.status || x.Record.Flags != want.flag || !strings.Contains(reply.Body, "meshctl status") {
			t.Errorf("%s: reply %+v, flags %q; want %+v with a hint", host, reply, x.Record.Flags, want)
		}
	}
	target, reply := p.Begin(t.Context(), newExchange(exchange.Outbound, "example.com:8080"))
	if reply != nil || target.Address != "example.com:8080" {
		t.Errorf("a host outside of the mesh: target %+v, reply %+v", target, reply)
	}
}

func TestAVirtualAddressNamesItsServiceAndIsNeverDialled(t *testing.T) {
	p := newPipeline(check.Decision{})
	p.routes.Set([]*discoveryv1.Service{oneEndpoint()})
	known := netip.AddrPortFrom(capture.VirtualAddresses([]string{"b.default.svc.cluster.local"})["b.default.svc.cluster.local"], 5432)
	unknown := netip.AddrPortFrom(known.Addr().Next(), 5432)
	check := func(name string, to netip.AddrPort, host, wantHost, wantTarget, wantFlags string) {
		t.Helper()
		x := newExchange(exchange.Outbound, host)
		x.OriginalDestination = to
		target, _ := p.Begin(t.Context(), x)
		if target.Address != wantTarget || x.Record.Flags != wantFlags || x.Record.Host != wantHost {
			t.Errorf("%s: to %q with flags %q for host %q", name, target.Address, x.Record.Flags, x.Record.Host)
		}
	}
	check("bytes without a name", known, known.String(), "b.default.svc.cluster.local:5432", "127.0.0.1:1", "")
	check("a name that no service has", known, "db.example", "db.example", "127.0.0.1:1", "")
	check("an address that no service has", unknown, unknown.String(), unknown.String(), "", vocab.FlagNoRoute)
	check("a service's name at another address", unknown, "b", "b", "127.0.0.1:1", "")
	check("an address outside", netip.MustParseAddrPort("10.0.0.1:5432"), "db.example", "db.example", "10.0.0.1:5432", "")
}

func TestAnOpaqueConnectionGoesOnWithIDsAndIdentity(t *testing.T) {
	p := newPipeline(check.Decision{})
	p.routes.Set([]*discoveryv1.Service{oneEndpoint()})
	x := newExchange(exchange.Outbound, "b:5432")
	fields := new(exchange.Fields)
	x.Request = fields
	target, reply := p.Begin(t.Context(), x)
	if reply != nil || target.Endpoint == nil {
		t.Fatalf("target %+v, reply %+v", target, reply)
	}
	for name, want := range map[string]string{
		vocab.HeaderPeer: self.Header(), vocab.HeaderRequestID: "", vocab.HeaderTraceparent: "",
	} {
		if got := fields.Get(name); got == "" || want != "" && got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if len(fields.All()) != 3 {
		t.Errorf("it goes on with %v, want three fields", fields.All())
	}
}

func TestPipelineStripsThePeerHeader(t *testing.T) {
	p := newPipeline(check.Decision{})
	for _, d := range []exchange.Direction{exchange.Inbound, exchange.Outbound} {
		x := newExchange(d, "example.com")
		x.Request.Set(vocab.HeaderPeer, other.Header())
		x.Response.Set(vocab.HeaderPeer, other.Header())
		p.Begin(t.Context(), x)
		x.Meshed = false
		p.Respond(x)
		if x.Request.Get(vocab.HeaderPeer) != "" || x.Response.Get(vocab.HeaderPeer) != "" {
			t.Errorf("%s: a peer header passed", d)
		}
	}
}

func TestPipelineLearnsVerdictsFromMeshPeersOnly(t *testing.T) {
	p := newPipeline(check.Decision{})
	for peer, want := range map[string]string{other.Header(): vocab.VerdictDenied, "": vocab.VerdictOK} {
		x := newExchange(exchange.Outbound, "example.com")
		x.Destination = &identity.Peer{Service: "b"}
		x.Response.Set(vocab.HeaderPeer, peer)
		x.Response.Set(vocab.HeaderVerdict, "denied;default/p/r")
		p.Respond(x)
		if x.Record.Verdict != want || x.Response.Get(vocab.HeaderVerdict) != "" {
			t.Errorf("peer %q: verdict %q, want %q and no header left", peer, x.Record.Verdict, want)
		}
	}
}

func TestPipelineWaitsBeforeAnotherAttempt(t *testing.T) {
	p := newPipeline(check.Decision{}, &discoveryv1.Service{
		Name: "b", Namespace: "default", Host: "b.default.svc.cluster.local",
		Endpoints: []*discoveryv1.Endpoint{{Instance: "b-1", Address: "127.0.0.1:1", Healthy: true}},
	})
	waited := false
	for range 100 { // the wait is random, and may be nothing
		x := newExchange(exchange.Outbound, "b")
		first, _ := p.Begin(t.Context(), x)
		refused := exchange.Outcome{Failure: exchange.ConnectFailure, Unsent: true}
		second, ok := p.Retry(x, refused)
		if first.Backoff != 0 || !ok || second.Backoff < 0 || second.Backoff > 25*time.Millisecond {
			t.Fatalf("first attempt after %s, second %v after %s; want 0, true and up to 25 ms", first.Backoff, ok, second.Backoff)
		}
		waited = waited || second.Backoff > 0
		first.Endpoint.Done(refused)
		second.Endpoint.Done(exchange.Outcome{Status: 200})
	}
	if !waited {
		t.Error("no attempt waited")
	}
}

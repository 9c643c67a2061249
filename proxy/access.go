package proxy

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/authz"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// authorize asks Istio's access policies, which come before all others and only
// on the side of the callee, and turns a refusal into an answer. Envoy has no
// flag for either filter; the detail says which it was.
func (p *pipeline) authorize(ctx context.Context, x *exchange.Exchange) *exchange.Reply {
	if x.Direction != exchange.Inbound || !p.access.Active() {
		return nil
	}
	began := netio.Now()
	r := p.accessRequest(x)
	d := p.access.Check(ctx, &r)
	x.Decision = exchange.Decision{Verdict: d.Verdict, Policy: d.Policy, Rule: d.Rule, Duration: time.Duration(netio.Now() - began)}
	if d.Verdict == vocab.VerdictOK {
		return nil
	}
	x.Record.Verdict, x.Record.Rule = d.Verdict, d.Policy+"/"+d.Rule
	if !d.Refused() {
		return nil
	}
	x.Record.Detail = d.Detail
	if d.Challenge != "" {
		x.ResponseHeaders = append(x.ResponseHeaders, exchange.Field{Name: "www-authenticate", Value: d.Challenge})
	}
	return &exchange.Reply{Status: d.Status, ContentType: "text/plain", Body: d.Body}
}

func (p *pipeline) accessRequest(x *exchange.Exchange) authz.Request {
	r := authz.Request{
		TCP: x.Record.Protocol == vocab.ProtocolTCP, Method: x.Record.Method, Path: x.Target, Host: x.Authority, Scheme: x.Scheme,
		Headers: x.Request, Principal: x.Principal, Source: x.Downstream, Destination: p.destination(x),
	}
	if x.TLS != nil {
		r.ServerName = x.TLS.ServerName
	}
	return r
}

// destination is where an inbound exchange goes as policies see it: the workload's
// own port, whichever the sidecar listens on.
func (p *pipeline) destination(x *exchange.Exchange) netip.AddrPort {
	if x.OriginalDestination.IsValid() {
		return x.OriginalDestination
	}
	return p.appDestination
}

// appDestination is the application's address, as far as it is an IP address.
func appDestination(address string) netip.AddrPort {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil { // a name, such as localhost
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, uint16(n))
}

// trustDomain is that of a SPIFFE ID, empty without one.
func trustDomain(principal string) string {
	domain, _, _ := strings.Cut(strings.TrimPrefix(principal, "spiffe://"), "/")
	return domain
}

// labels are those that policies may select the workload by: what every workload
// has, and what the operator gave it.
func (c *Config) labels() map[string]string {
	labels := map[string]string{
		"app": c.Service, "version": c.Version, "app.kubernetes.io/name": c.Service, "app.kubernetes.io/version": c.Version,
		"service.istio.io/canonical-name": c.Service, "service.istio.io/canonical-revision": c.Version,
	}
	for _, l := range c.Labels {
		key, value, _ := strings.Cut(l, "=")
		labels[key] = value
	}
	return labels
}

package extauthz

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/telemesh/telemesh/policy-check/check"
)

// destinationKey is the context extension of Envoy's configuration that names
// the destination, as ratings.default or ratings.default.svc.cluster.local.
const destinationKey = "destination.service"

// destination is the service that a request goes to. The request's Host is not
// asked: whoever sends the request chooses it, and with it would choose the
// rules.
func destination(a *authv3.AttributeContext) (service, error) {
	text := a.GetContextExtensions()[destinationKey]
	if text == "" {
		text = a.GetDestination().GetService()
	}
	if text == "" {
		return service{}, errors.New(`the request names no destination: set context_extensions {destination.service: NAME.NAMESPACE} in Envoy's ext_authz filter or route`)
	}
	name, rest, _ := strings.Cut(text, ".")
	namespace, _, _ := strings.Cut(rest, ".")
	if name == "" || namespace == "" {
		return service{}, fmt.Errorf("destination.service %q: want NAME.NAMESPACE, such as ratings.default", text)
	}
	return service{namespace, name}, nil
}

// attributes is what a rule can ask of the request. Of the peers Envoy knows the
// address and, with mutual TLS, the principal; a peer's namespace is that of its
// SPIFFE ID. What the other end says of itself (the header that Envoy puts into
// source.service) proves nothing and is left out.
func attributes(a *authv3.AttributeContext, to service) *check.Attributes {
	http := a.GetRequest().GetHttp()
	h := headers{http}
	out := &check.Attributes{
		Method: http.GetMethod(), Path: http.GetPath(), Host: http.GetHost(), Scheme: http.GetScheme(), Protocol: http.GetProtocol(),
		UserAgent: h.get("user-agent"), RequestID: h.get("x-request-id"), Header: h.get,
		Source: peer(a.GetSource()), Destination: peer(a.GetDestination()),
		SourceAddress: address(a.GetSource()), DestinationAddress: address(a.GetDestination()),
	}
	if out.Protocol == "HTTP/2" { // as Envoy spells it
		out.Protocol = "HTTP/2.0"
	}
	if q := http.GetQuery(); q != "" && !strings.Contains(out.Path, "?") {
		out.Path += "?" + q
	}
	out.Destination.Namespace, out.Destination.Service = to.namespace, to.name
	return out
}

func peer(p *authv3.AttributeContext_Peer) check.Peer {
	return check.Peer{Principal: p.GetPrincipal(), Namespace: namespaceOf(p.GetPrincipal())}
}

// namespaceOf reads the namespace from an ID in Istio's form,
// spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT; empty for any other.
func namespaceOf(principal string) string {
	rest, ok := strings.CutPrefix(principal, "spiffe://")
	if parts := strings.Split(rest, "/"); ok && len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
		return parts[2]
	}
	return ""
}

func address(p *authv3.AttributeContext_Peer) string {
	socket := p.GetAddress().GetSocketAddress()
	if socket == nil {
		return ""
	}
	return net.JoinHostPort(socket.GetAddress(), strconv.FormatUint(uint64(socket.GetPortValue()), 10))
}

// headers are a request's, in the form in which Envoy was told to send them.
type headers struct {
	*authv3.AttributeContext_HttpRequest
}

// get returns a header by its lower-case name, the values of several as one.
func (h headers) get(name string) string {
	if v, ok := h.GetHeaders()[name]; ok {
		return v
	}
	var values []string
	for _, v := range h.GetHeaderMap().GetHeaders() {
		if v.GetKey() == name {
			values = append(values, valueOf(v))
		}
	}
	return strings.Join(values, ",")
}

func valueOf(v *corev3.HeaderValue) string {
	if raw := v.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return v.GetValue()
}

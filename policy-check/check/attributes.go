package check

import (
	"strings"

	"github.com/telemesh/telemesh/policy-check/expr"
)

// Attributes is what a rule may ask of one request. Empty means unknown.
type Attributes struct {
	Method string
	// Path is the request target with its query, as request.path; rules that
	// want one of the two ask for request.url_path or request.query.
	Path      string
	Host      string
	Scheme    string
	Protocol  string
	UserAgent string
	RequestID string
	// Header returns a request header by its lower-case name, empty if there is
	// none. It may be nil.
	Header func(name string) string

	Source, Destination Peer
	SourceAddress       string
	DestinationAddress  string
}

// Peer is one end of a request.
type Peer struct {
	Cluster, Namespace, Workload, Service, Version, Principal string
}

// source adapts Attributes to expressions without putting methods on the type
// that callers fill in.
type source struct{ *Attributes }

// Attribute implements expr.Source.
func (s source) Attribute(a expr.Attribute) string {
	switch a {
	case expr.RequestMethod:
		return s.Method
	case expr.RequestPath:
		return s.Path
	case expr.RequestURLPath:
		path, _, _ := strings.Cut(s.Path, "?")
		return path
	case expr.RequestQuery:
		_, query, _ := strings.Cut(s.Path, "?")
		return query
	case expr.RequestHost:
		return s.Host
	case expr.RequestScheme:
		return s.Scheme
	case expr.RequestProtocol:
		return s.Protocol
	case expr.RequestUserAgent:
		return s.UserAgent
	case expr.RequestID:
		return s.RequestID
	case expr.SourceAddress:
		return s.SourceAddress
	case expr.DestinationAddress:
		return s.DestinationAddress
	}
	if a >= expr.DestinationCluster {
		return s.Destination.attribute(a - expr.DestinationCluster + expr.SourceCluster)
	}
	return s.Source.attribute(a)
}

// attribute reads a peer by the source's numbers.
func (p *Peer) attribute(a expr.Attribute) string {
	switch a {
	case expr.SourceCluster:
		return p.Cluster
	case expr.SourceNamespace:
		return p.Namespace
	case expr.SourceWorkload:
		return p.Workload
	case expr.SourceService:
		return p.Service
	case expr.SourceVersion:
		return p.Version
	case expr.SourcePrincipal:
		return p.Principal
	}
	return ""
}

// Header implements expr.Source.
func (s source) Header(name string) string {
	if s.Attributes.Header == nil {
		return ""
	}
	return s.Attributes.Header(name)
}

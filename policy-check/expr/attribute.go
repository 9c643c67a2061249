// Package expr compiles and evaluates the expressions of traffic policies:
// CEL over the attributes of one request, under Envoy's attribute names, so
// that expressions can be carried over from other meshes.
package expr

// Attribute numbers one string attribute of a request. Headers are apart, see
// Source.
type Attribute int

// The attributes of a request. Their spelling is in names.
const (
	RequestMethod Attribute = iota
	RequestPath
	RequestURLPath
	RequestQuery
	RequestHost
	RequestScheme
	RequestProtocol
	RequestUserAgent
	RequestID
	SourceCluster
	SourceNamespace
	SourceWorkload
	SourceService
	SourceVersion
	SourcePrincipal
	SourceAddress
	DestinationCluster
	DestinationNamespace
	DestinationWorkload
	DestinationService
	DestinationVersion
	DestinationPrincipal
	DestinationAddress
	attributeCount
)

// headers is the one attribute that is a map.
const headers = "request.headers"

// String is the attribute's name in expressions, as Envoy's attributes spell it.
func (a Attribute) String() string {
	switch a {
	case RequestMethod:
		return "request.method"
	case RequestPath:
		return "request.path"
	case RequestURLPath:
		return "request.url_path"
	case RequestQuery:
		return "request.query"
	case RequestHost:
		return "request.host"
	case RequestScheme:
		return "request.scheme"
	case RequestProtocol:
		return "request.protocol"
	case RequestUserAgent:
		return "request.useragent"
	case RequestID:
		return "request.id"
	}
	if a >= DestinationCluster {
		return "destination." + peerField(a-DestinationCluster)
	}
	return "source." + peerField(a-SourceCluster)
}

func peerField(offset Attribute) string {
	return [...]string{"cluster", "namespace", "workload", "service", "version", "principal", "address"}[offset]
}

// Source is what an expression reads of one request.
type Source interface {
	// Attribute returns a value, empty when it is unknown.
	Attribute(a Attribute) string
	// Header returns the value of a request header by its lower-case name,
	// empty when the request has none.
	Header(name string) string
}

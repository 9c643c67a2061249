// Package vocab is the one table of names that telemesh emits: each fact about
// a request in Istio's attribute spelling, as a Prometheus label, as an
// OpenTelemetry attribute and as a column of the record codec. Sidecar, hub,
// dashboards and UI read it, so that a renamed label breaks the build and
// never blanks a panel.
//
// Sources: Istio standard metrics, Envoy access log, OpenTelemetry semantic
// conventions for HTTP and RPC.
package vocab

// Column numbers of the record codec. A number once given keeps its meaning
// for ever; a retired column leaves a hole.
const (
	ColStart        = 1  // Unix nanoseconds
	ColDuration     = 2  // nanoseconds
	ColFirstByte    = 3  // nanoseconds from start to the upstream's first byte, 0 if none
	ColTraceID      = 4  // 16 bytes
	ColRequestID    = 5  // text, empty when it is the UUID form of the trace ID
	ColSpanID       = 6  // 8 bytes
	ColParentSpanID = 7  // 8 bytes, zero for a root
	ColEdge         = 8  // index into the batch's edges
	ColProtocol     = 9  // http, grpc, tcp
	ColMethod       = 10 // text
	ColPath         = 11 // text, with query
	ColHost         = 12 // text
	ColRoute        = 13 // text
	ColCode         = 14 // HTTP status, 0 if none
	ColGRPCStatus   = 15 // status + 1, 0 when not gRPC
	ColFlags        = 16 // Envoy response flags, empty if none
	ColDetail       = 17 // response code details
	ColBytesIn      = 18 // bytes received from downstream
	ColBytesOut     = 19 // bytes sent to downstream
	ColAttempts     = 20 // upstream attempts
	ColUpstream     = 21 // host:port
	ColVerdict      = 22 // ok, denied, throttled, shadow_denied, shadow_throttled, audited
	ColRule         = 23 // policy/rule of a verdict other than ok
	ColUserAgent    = 24 // text
	ColSampled      = 25 // 0 or 1
	ColAttributes   = 26 // user attributes, key=value pairs
	ColVersion      = 27 // HTTP version, as in "HTTP/1.1"
)

// Attribute is one fact in its three spellings. Empty means that the fact has
// no place in that vocabulary.
type Attribute struct {
	Istio  string // Istio's dotted attribute
	Label  string // Prometheus label of the standard metrics
	OTel   string // OpenTelemetry attribute
	Column int    // column of the record codec, 0 if it belongs to the edge
}

// Attributes lists every fact of the thin record and of its edge.
var Attributes = []Attribute{
	{"context.reporter.kind", LabelReporter, "", 0},
	{"source.cluster.id", LabelSourceCluster, "", 0},
	{"source.workload.namespace", LabelSourceWorkloadNamespace, "", 0},
	{"source.workload.name", LabelSourceWorkload, "", 0},
	{"source.principal", LabelSourcePrincipal, "", 0},
	{"source.labels.app", LabelSourceApp, "", 0},
	{"source.canonical_service", LabelSourceCanonicalService, "service.peer.name", 0},
	{"source.canonical_revision", LabelSourceCanonicalRevision, "", 0},
	{"source.labels.version", LabelSourceVersion, "", 0},
	{"destination.cluster.id", LabelDestinationCluster, "k8s.cluster.name", 0},
	{"destination.workload.namespace", LabelDestinationWorkloadNamespace, "service.namespace", 0},
	{"destination.workload.name", LabelDestinationWorkload, "", 0},
	{"destination.principal", LabelDestinationPrincipal, "", 0},
	{"destination.labels.app", LabelDestinationApp, "", 0},
	{"destination.canonical_service", LabelDestinationCanonicalService, "service.name", 0},
	{"destination.canonical_revision", LabelDestinationCanonicalRevision, "", 0},
	{"destination.labels.version", LabelDestinationVersion, "service.version", 0},
	{"destination.service.host", LabelDestinationService, "server.address", 0},
	{"destination.service.name", LabelDestinationServiceName, "", 0},
	{"destination.service.namespace", LabelDestinationServiceNamespace, "", 0},
	{"connection.security.policy", LabelSecurity, "", 0},
	{"request.time", "", "", ColStart},
	{"request.duration", "", "", ColDuration},
	{"response.first_byte", "", "", ColFirstByte},
	{"request.trace_id", "", "trace_id", ColTraceID},
	{"request.id", "", "http.request.header.x-request-id", ColRequestID},
	{"request.span_id", "", "span_id", ColSpanID},
	{"request.parent_span_id", "", "parent_span_id", ColParentSpanID},
	{"context.protocol", LabelProtocol, "network.protocol.name", ColProtocol},
	{"request.method", "", "http.request.method", ColMethod},
	{"request.path", "", "url.path", ColPath},
	{"request.host", "", "http.request.header.host", ColHost},
	{"request.route", "", "http.route", ColRoute},
	{"response.code", LabelCode, "http.response.status_code", ColCode},
	{"response.grpc_status", LabelGRPCStatus, "rpc.status_code", ColGRPCStatus},
	{"response.flags", LabelFlags, "error.type", ColFlags},
	{"response.code_details", "", "", ColDetail},
	{"request.total_size", "", "http.request.size", ColBytesIn},
	{"response.total_size", "", "http.response.size", ColBytesOut},
	{"upstream.attempts", "", "http.request.resend_count", ColAttempts},
	{"upstream.address", "", "network.peer.address", ColUpstream},
	{"check.verdict", "", "", ColVerdict},
	{"check.rule", "", "", ColRule},
	{"request.useragent", "", "user_agent.original", ColUserAgent},
	{"request.sampled", "", "", ColSampled},
	{"request.version", "", "network.protocol.version", ColVersion},
	{"attributes", "", "", ColAttributes},
}

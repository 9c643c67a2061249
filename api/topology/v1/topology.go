// Package topologyv1 is the hub's JSON API: what the web UI, meshctl and
// anybody's scripts read. The TypeScript types of the UI are generated from
// these structs (internal/tsgen).
//
// Durations are milliseconds as floating point, times are Unix milliseconds,
// rates are per second, shares run from 0 to 1. A list is never null.
//
//	GET /api/mesh/v1/graph?window=60            Graph
//	GET /api/mesh/v1/graph/stream?window=60     SSE: event "graph" (Graph), then "delta" (Delta) once a second;
//	                                            id is the sequence, Last-Event-ID resumes
//	POST /api/mesh/v1/graph/tidy                lays the graph out afresh
//	GET /api/mesh/v1/series?node=ID|edge=ID&window=300   Series
//	GET /api/mesh/v1/requests/{id}?detail=      Trace; id is a request ID, a trace ID or a traceparent. Details that the
//	                                            hub lacks are ordered from the sidecars; with detail=wait it waits
//	                                            for them, at most 2 s; with detail=kept it orders none, and with
//	                                            detail=no it gives none either
//	GET /api/mesh/v1/requests?service=&status=&min_ms=&limit=  RequestList, newest first
//	GET /api/mesh/v1/tap?service=&status=&...   SSE: event "record" (Record); event "lagged" when some were left out
//	GET /api/mesh/v1/status                     Status
//	GET /api/mesh/v1/policies                   PolicyList
//
// An error is an Error with a fitting HTTP status.
package topologyv1

// SchemaVersion of every document of this package.
const SchemaVersion = 1

// Error says what went wrong, why, and what to do next.
type Error struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// Health is a node's or an edge's state. It is shown by colour and by shape.
type Health string

// Failing: 10 % or more of the requests fail. Degraded: any server error at
// all beyond 0.1 %, or requests refused by policy, or a node of which a
// sidecar is lost. Idle: no request in the window. Lost: every sidecar of the
// node is gone.
const (
	Healthy  Health = "healthy"
	Degraded Health = "degraded"
	Failing  Health = "failing"
	Idle     Health = "idle"
	Lost     Health = "lost"
)

// Graph is the whole service graph over a window that ends now.
type Graph struct {
	SchemaVersion int    `json:"schemaVersion"`
	Sequence      uint64 `json:"sequence"`
	TimeMillis    int64  `json:"timeMillis"`
	// Seconds over which rates, shares and percentiles are taken.
	WindowSeconds int    `json:"windowSeconds"`
	Nodes         []Node `json:"nodes"`
	Edges         []Edge `json:"edges"`
	Mesh          Mesh   `json:"mesh"`
}

// Delta brings a Graph to Sequence: listed nodes and edges replace those with
// the same ID or are new.
type Delta struct {
	Sequence     uint64   `json:"sequence"`
	TimeMillis   int64    `json:"timeMillis"`
	Nodes        []Node   `json:"nodes"`
	Edges        []Edge   `json:"edges"`
	RemovedNodes []string `json:"removedNodes"`
	RemovedEdges []string `json:"removedEdges"`
	Mesh         Mesh     `json:"mesh"`
}

// Mesh sums the whole graph up and says how far it can be trusted.
type Mesh struct {
	Signals           Signals `json:"signals"`
	Sidecars          int     `json:"sidecars"`
	SidecarsConnected int     `json:"sidecarsConnected"`
	Records           uint64  `json:"records"`
	// Thin records that sidecars had to drop; counts stay exact.
	RecordsLost uint64 `json:"recordsLost"`
	// Age of the newest sample, -1 before the first.
	LagMillis int64 `json:"lagMillis"`
}

// Node is a workload, or a stand-in for what has no sidecar.
type Node struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"` // workload, unknown (no sidecar known), external
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	Service   string `json:"service"`
	Version   string `json:"version"`
	// Centre of the node in layout units (a node is about 160 by 56). Changes
	// only by Tidy.
	X float64 `json:"x"`
	Y float64 `json:"y"`

	Health       Health `json:"health"`
	HealthReason string `json:"healthReason"`
	// Requests that this node received (as itself, else as its callers report).
	Inbound Signals `json:"inbound"`
	// Requests that this node sent.
	Outbound   Signals    `json:"outbound"`
	Saturation Saturation `json:"saturation"`
	Instances  []Instance `json:"instances"`
	// Unix milliseconds of the first and the newest request.
	FirstSeenMillis int64 `json:"firstSeenMillis"`
	LastSeenMillis  int64 `json:"lastSeenMillis"`
}

// Instance is one sidecar of a node.
type Instance struct {
	Name         string `json:"name"`
	Connected    bool   `json:"connected"`
	AppReachable bool   `json:"appReachable"`
	Detail       string `json:"detail,omitempty"`
	AdminAddress string `json:"adminAddress,omitempty"`
	// Unix milliseconds of the last batch.
	LastReportMillis int64  `json:"lastReportMillis"`
	SoftwareVersion  string `json:"softwareVersion"`
}

// Edge is the traffic from one node to another for one destination service
// and protocol.
type Edge struct {
	ID                 string `json:"id"`
	Source             string `json:"source"`
	Destination        string `json:"destination"`
	DestinationService string `json:"destinationService"`
	Protocol           string `json:"protocol"`
	Security           string `json:"security"`

	Health       Health  `json:"health"`
	HealthReason string  `json:"healthReason"`
	Signals      Signals `json:"signals"`
	// Which reporter Signals come from: source where it reports, because only
	// it saw the requests that never arrived, else destination.
	Reporter string `json:"reporter"`
	// Requests since the hub's data begins, by either reporter. They are equal
	// unless requests failed on the way or a sidecar is missing.
	SourceTotal      uint64 `json:"sourceTotal"`
	DestinationTotal uint64 `json:"destinationTotal"`
	// Both report and differ by more than 1 % over the window.
	Disagreement bool `json:"disagreement"`

	FirstSeenMillis int64 `json:"firstSeenMillis"`
	LastSeenMillis  int64 `json:"lastSeenMillis"`
}

// Signals are the golden signals of traffic over a window.
type Signals struct {
	Requests uint64  `json:"requests"`
	Rate     float64 `json:"rate"`
	// Server errors (5xx, gRPC failures, no response).
	Errors     uint64  `json:"errors"`
	ErrorShare float64 `json:"errorShare"`
	// 4xx other than policy verdicts.
	ClientErrors uint64  `json:"clientErrors"`
	Denied       uint64  `json:"denied"`
	Throttled    uint64  `json:"throttled"`
	P50          float64 `json:"p50"`
	P95          float64 `json:"p95"`
	P99          float64 `json:"p99"`
	BytesIn      uint64  `json:"bytesIn"`
	BytesOut     uint64  `json:"bytesOut"`
}

// Saturation is how full a node's sidecars are, summed over its instances.
type Saturation struct {
	InFlight    uint32  `json:"inFlight"`
	PoolActive  uint32  `json:"poolActive"`
	PoolIdle    uint32  `json:"poolIdle"`
	PoolPending uint32  `json:"poolPending"`
	CPUCores    float64 `json:"cpuCores"`
	MemoryBytes uint64  `json:"memoryBytes"`
	// The fullest report ring, 0 to 1.
	ReportQueue float64 `json:"reportQueue"`
}

// Series is the recent past of one node or edge, one point a second.
type Series struct {
	ID string `json:"id"`
	// Unix milliseconds of the first point.
	StartMillis int64 `json:"startMillis"`
	StepSeconds int   `json:"stepSeconds"`
	// All lists have the same length. P50 to P99 are -1 in a second without
	// requests.
	Rate       []float64 `json:"rate"`
	Errors     []float64 `json:"errors"`
	Denied     []float64 `json:"denied"`
	Throttled  []float64 `json:"throttled"`
	P50        []float64 `json:"p50"`
	P95        []float64 `json:"p95"`
	P99        []float64 `json:"p99"`
	InFlight   []float64 `json:"inFlight"`
	CPUCores   []float64 `json:"cpuCores"`
	MemoryByte []float64 `json:"memoryBytes"`
	// Responses of the window by code and flags, most frequent first.
	Responses []ResponseCount `json:"responses"`
}

// ResponseCount counts the responses of one kind.
type ResponseCount struct {
	Code     uint32 `json:"code"`
	Flags    string `json:"flags"`
	Verdict  string `json:"verdict"`
	Requests uint64 `json:"requests"`
}

// Party is one end of a record.
type Party struct {
	// ID of the graph's node.
	Node      string `json:"node"`
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	Service   string `json:"service"`
	Version   string `json:"version"`
	Instance  string `json:"instance"`
}

// Record is the thin record of one request at one sidecar. It is the access
// log line and the span in one.
type Record struct {
	Reporter    string `json:"reporter"` // source, destination
	Source      Party  `json:"source"`
	Destination Party  `json:"destination"`
	// ID of the graph's edge.
	Edge               string `json:"edge"`
	DestinationService string `json:"destinationService"`

	StartUnixNano int64   `json:"startUnixNano,string"`
	DurationMs    float64 `json:"durationMs"`
	FirstByteMs   float64 `json:"firstByteMs"`

	RequestID    string `json:"requestId"`
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"` // empty for a root
	Sampled      bool   `json:"sampled"`

	Protocol    string            `json:"protocol"`
	HTTPVersion string            `json:"httpVersion"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	Host        string            `json:"host"`
	Route       string            `json:"route"`
	Code        uint32            `json:"code"`
	GRPCStatus  string            `json:"grpcStatus"`
	Flags       string            `json:"flags"`
	Detail      string            `json:"detail"`
	BytesIn     uint64            `json:"bytesIn"`
	BytesOut    uint64            `json:"bytesOut"`
	Attempts    uint32            `json:"attempts"`
	Upstream    string            `json:"upstream"`
	Verdict     string            `json:"verdict"`
	Rule        string            `json:"rule"`
	UserAgent   string            `json:"userAgent"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	// The record as a line in Envoy's access-log format.
	AccessLog string `json:"accessLog"`

	// In a Trace only: headers, attempts and policy decisions, or why there are
	// none. Pending ones may come within a second.
	Details        *Details `json:"details,omitempty"`
	DetailsMissing string   `json:"detailsMissing,omitempty"`
	DetailsPending bool     `json:"detailsPending,omitempty"`
}

// Details are what one sidecar remembered of a request beyond its record.
type Details struct {
	// What asked for it: error, flag, denied, retry, slow (this request), or order
	// (somebody opened it, or another hop of it went wrong).
	Trigger string `json:"trigger"`
	// Heads as the sidecar saw them; absent where there was none.
	Request  *Head `json:"request,omitempty"`
	Response *Head `json:"response,omitempty"`
	Trailers *Head `json:"trailers,omitempty"`
	// In their order; the last one gave the answer, if there is one.
	Attempts  []Attempt  `json:"attempts"`
	Decisions []Decision `json:"decisions"`
	// From the request's start: all of it, to the upstream's first byte (0 without
	// one), and what policy took of it.
	DurationMs  float64 `json:"durationMs"`
	FirstByteMs float64 `json:"firstByteMs"`
	PolicyMs    float64 `json:"policyMs"`
}

// Head is a message's head.
type Head struct {
	// First line of HTTP/1; empty for HTTP/2.
	Line   string        `json:"line"`
	Fields []HeaderField `json:"fields"`
	// Some of it was too long to be kept.
	Truncated bool `json:"truncated,omitempty"`
}

// HeaderField is one header field. The value of a redacted one says its length.
type HeaderField struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Redacted bool   `json:"redacted,omitempty"`
}

// Attempt is one try to have the request answered.
type Attempt struct {
	Upstream string `json:"upstream"`
	// From the request's start.
	OffsetMs float64 `json:"offsetMs"`
	// How long it waited for a connection; 0 on one that was there.
	ConnectMs float64 `json:"connectMs"`
	// From the attempt's start; 0 without an answer.
	FirstByteMs float64 `json:"firstByteMs"`
	DurationMs  float64 `json:"durationMs"`
	Code        uint32  `json:"code"`
	GRPCStatus  string  `json:"grpcStatus"`
	// ok, connect_failure, refused, reset, timeout, protocol_error, local.
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// Decision is what local policy said. Policy and rule are empty if none had
// anything against the request.
type Decision struct {
	Policy     string  `json:"policy"`
	Rule       string  `json:"rule"`
	Verdict    string  `json:"verdict"`
	DurationMs float64 `json:"durationMs"`
}

// Trace is everything the mesh knows of one request.
type Trace struct {
	SchemaVersion int     `json:"schemaVersion"`
	TraceID       string  `json:"traceId"`
	RequestID     string  `json:"requestId"`
	StartUnixNano int64   `json:"startUnixNano,string"`
	DurationMs    float64 `json:"durationMs"`
	// In call order, depth first, by start time among siblings.
	Hops []Hop `json:"hops"`
	// What is missing, in words; empty when every hop has both sides.
	Gaps []string `json:"gaps"`
}

// Hop is one request between two workloads as its two sidecars saw it. At
// least one side is present.
type Hop struct {
	Depth int `json:"depth"`
	// Milliseconds from the trace's start, and length, of the outermost side.
	OffsetMs   float64 `json:"offsetMs"`
	DurationMs float64 `json:"durationMs"`
	Client     *Record `json:"client,omitempty"`
	Server     *Record `json:"server,omitempty"`
	// Why a side is absent; empty when both are there.
	Gap string `json:"gap,omitempty"`
	// IDs of the graph's edge and nodes.
	Edge        string `json:"edge"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Failed      bool   `json:"failed"`
}

// RequestList is the answer to a search.
type RequestList struct {
	Requests []Record `json:"requests"`
	// More requests matched than were asked for.
	Truncated bool `json:"truncated"`
}

// Status is the hub's own state.
type Status struct {
	SchemaVersion int    `json:"schemaVersion"`
	Version       string `json:"version"`
	StartMillis   int64  `json:"startMillis"`
	NowMillis     int64  `json:"nowMillis"`
	HTTPAddress   string `json:"httpAddress"`
	GRPCAddress   string `json:"grpcAddress"`
	DataDir       string `json:"dataDir"`

	Sidecars []SidecarStatus `json:"sidecars"`
	Services []ServiceStatus `json:"services"`
	Store    StoreStatus     `json:"store"`
	Ingest   IngestStatus    `json:"ingest"`
	Policies []PolicyStatus  `json:"policies"`
}

// SidecarStatus is one sidecar, connected or remembered.
type SidecarStatus struct {
	Instance
	Node           string `json:"node"`
	Namespace      string `json:"namespace"`
	Workload       string `json:"workload"`
	Service        string `json:"service"`
	Version        string `json:"version"`
	InboundAddress string `json:"inboundAddress"`
	Batches        uint64 `json:"batches"`
	Records        uint64 `json:"records"`
	RecordsLost    uint64 `json:"recordsLost"`
}

// ServiceStatus is a name that the registry resolves.
type ServiceStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Host      string `json:"host"`
	Port      uint32 `json:"port"`
	Endpoints int    `json:"endpoints"`
	Healthy   int    `json:"healthy"`
}

// StoreStatus is the record store.
type StoreStatus struct {
	Records  uint64 `json:"records"`
	Bytes    int64  `json:"bytes"`
	Segments int    `json:"segments"`
	// SealedRecords are those in segments; the others are in the log, of which
	// UnsealedLogs files are closed and wait to be sealed.
	SealedRecords uint64 `json:"sealedRecords"`
	UnsealedLogs  int    `json:"unsealedLogs"`
	LogBytes      int64  `json:"logBytes"`
	OldestMilli   int64  `json:"oldestMillis"`
	Corruptions   uint64 `json:"corruptions"`
	// Bucket is absent where segments stay on the disk.
	Bucket *BucketStatus `json:"bucket,omitempty"`
}

// BucketStatus is the bucket that a hub's segments go to, and those of others.
type BucketStatus struct {
	// Hub is this one's name there.
	Hub string `json:"hub"`
	// What look-ups ask, of all hubs.
	Segments int    `json:"segments"`
	Records  uint64 `json:"records"`
	Bytes    int64  `json:"bytes"`
	// Waiting segments of this hub are not there yet.
	Waiting        int    `json:"waiting"`
	UploadFailures uint64 `json:"uploadFailures"`
	// ReadFailures counts segments that look-ups could not read.
	ReadFailures uint64 `json:"readFailures"`
}

// IngestStatus counts what came in.
type IngestStatus struct {
	Batches    uint64 `json:"batches"`
	Duplicates uint64 `json:"duplicates"`
	Rejected   uint64 `json:"rejected"`
	// Batches that senders had to forget before the hub got them.
	Missing uint64 `json:"missing"`
	Records uint64 `json:"records"`
}

// PolicyList is what is in force and what was refused.
type PolicyList struct {
	Policies []PolicyStatus `json:"policies"`
	// Files that were refused; the last good version stays in force.
	Errors []PolicyError `json:"errors"`
}

// PolicyStatus is one policy in force.
type PolicyStatus struct {
	// Kind is empty for a TrafficPolicy, else AuthorizationPolicy or
	// RequestAuthentication.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	File      string `json:"file"`
	Version   string `json:"version"`
	Mode      string `json:"mode"`
	// Rules in order, each with what it does in words.
	Rules   []PolicyRuleStatus `json:"rules"`
	Targets []string           `json:"targets"`
	// Sidecars that acknowledged this version, of those connected.
	Programmed int `json:"programmed"`
	Sidecars   int `json:"sidecars"`
}

// PolicyRuleStatus is a rule and what it did.
type PolicyRuleStatus struct {
	Name      string `json:"name"`
	Summary   string `json:"summary"`
	Allowed   uint64 `json:"allowed"`
	Denied    uint64 `json:"denied"`
	Throttled uint64 `json:"throttled"`
}

// PolicyError is a refused file.
type PolicyError struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Reason string `json:"reason"`
}

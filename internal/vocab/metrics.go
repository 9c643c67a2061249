package vocab

import "slices"

// Istio's standard metrics. Names and units are Istio's, although Prometheus'
// own advice would be seconds: its dashboards and Kiali read exactly these.
const (
	MetricRequests         = "istio_requests_total"
	MetricRequestDuration  = "istio_request_duration_milliseconds"
	MetricRequestBytes     = "istio_request_bytes"
	MetricResponseBytes    = "istio_response_bytes"
	MetricRequestMessages  = "istio_request_messages_total"
	MetricResponseMessages = "istio_response_messages_total"
	MetricTCPOpened        = "istio_tcp_connections_opened_total"
	MetricTCPClosed        = "istio_tcp_connections_closed_total"
	MetricTCPSentBytes     = "istio_tcp_sent_bytes_total"
	MetricTCPReceivedBytes = "istio_tcp_received_bytes_total"
	MetricBuild            = "istio_build"
)

// Saturation and policy signals, which Istio has no names for. Served by the
// sidecar about itself and by the hub for every sidecar (SidecarLabels).
const (
	MetricInFlight         = "mesh_requests_in_flight"            // gauge; direction
	MetricPoolConnections  = "mesh_pool_connections"              // gauge; state = active, idle
	MetricPoolPending      = "mesh_pool_pending_requests"         // gauge
	MetricSidecarCPU       = "mesh_sidecar_cpu_seconds_total"     // counter
	MetricSidecarMemory    = "mesh_sidecar_memory_bytes"          // gauge
	MetricReportQueue      = "mesh_report_queue_ratio"            // gauge, 0 to 1
	MetricRecordsDropped   = "mesh_report_records_dropped_total"  // counter; reason
	MetricDetailsSent      = "mesh_report_details_total"          // counter; trigger
	MetricDetailsLeft      = "mesh_report_details_left_total"     // counter; reason: what a trigger asked for and nobody sent
	MetricDetailKeptOneOf  = "mesh_report_detail_kept_one_of"     // gauge: traces for one that the ring of details keeps
	MetricDetailHorizon    = "mesh_report_detail_horizon_seconds" // gauge: how far back the ring of details reaches
	MetricPolicyChecks     = "mesh_policy_checks_total"           // counter; policy, rule, decision, origin
	MetricProtocolErrors   = "mesh_protocol_errors_total"         // counter; reason
	MetricSidecarConnected = "mesh_sidecar_connected"             // gauge, 1 or 0; hub only
)

// The hub's own golden signals.
const (
	MetricHubBatches        = "mesh_hub_batches_total"                // counter; result = accepted, duplicate, rejected
	MetricHubRejected       = "mesh_hub_rejected_total"               // counter; reason
	MetricHubRecords        = "mesh_hub_records_total"                // counter
	MetricHubLostRecords    = "mesh_hub_records_lost_total"           // counter; reason: what sidecars say they dropped
	MetricHubStreams        = "mesh_hub_streams"                      // gauge; kind
	MetricHubIngestDuration = "mesh_hub_ingest_duration_seconds"      // histogram: batch received to durable
	MetricHubStoreBytes     = "mesh_hub_store_bytes"                  // gauge
	MetricHubStoreRecords   = "mesh_hub_store_records"                // gauge
	MetricHubStoreLogBytes  = "mesh_hub_store_log_bytes"              // gauge: of them, in the log
	MetricHubStoreSegments  = "mesh_hub_store_segments"               // gauge
	MetricHubStoreUnsealed  = "mesh_hub_store_unsealed_logs"          // gauge: closed logs that wait to be sealed
	MetricHubStoreSealings  = "mesh_hub_store_sealings_total"         // counter; result = sealed, failed
	MetricHubBucketSegments = "mesh_hub_bucket_segments"              // gauge: of all hubs, that look-ups ask
	MetricHubBucketRecords  = "mesh_hub_bucket_records"               // gauge
	MetricHubBucketBytes    = "mesh_hub_bucket_bytes"                 // gauge
	MetricHubBucketWaiting  = "mesh_hub_bucket_waiting_segments"      // gauge: of this hub, that are not there yet
	MetricHubBucketUploads  = "mesh_hub_bucket_uploads_total"         // counter; result = uploaded, failed
	MetricHubBucketTaken    = "mesh_hub_bucket_logs_taken_over_total" // counter
	MetricHubBucketLeader   = "mesh_hub_bucket_retention_leader"      // gauge: 1 if this hub drops what is too old
	MetricHubBucketUnread   = "mesh_hub_bucket_read_failures_total"   // counter: segments that a look-up could not read
	MetricHubBucketRequests = "mesh_hub_bucket_requests_total"        // counter; operation = get, put, list, delete
	MetricHubBucketTraffic  = "mesh_hub_bucket_transfer_bytes_total"  // counter; operation = get, put
	MetricHubBucketErrors   = "mesh_hub_bucket_errors_total"          // counter: operations that failed for good
	MetricHubBucketRetries  = "mesh_hub_bucket_retries_total"         // counter
	MetricHubBucketDamaged  = "mesh_hub_bucket_damaged_reads_total"   // counter
	MetricHubBucketCache    = "mesh_hub_bucket_cache_bytes"           // gauge
	MetricHubBucketCached   = "mesh_hub_bucket_cache_reads_total"     // counter; result = hit, miss
	MetricHubQueue          = "mesh_hub_ingest_queue_batches"         // gauge: batches that wait for the log
	MetricHubAdmitted       = "mesh_hub_admission_bytes"              // gauge; state = waiting, admitted
	MetricHubAdmissionLimit = "mesh_hub_admission_limit_bytes"        // gauge: what admitted can be
	MetricHubAdmissionWaits = "mesh_hub_admission_waiting_batches"    // gauge
	MetricHubAdmissionAge   = "mesh_hub_admission_oldest_seconds"     // gauge: age of the oldest batch that is not done
	MetricHubAdmissionLevel = "mesh_hub_admission_level"              // gauge; 0 open, 1 narrowed, 2 stopped
	MetricHubAdmissionHeld  = "mesh_hub_admission_held_total"         // counter; reason = budget, memory
	MetricHubMemoryLimit    = "mesh_hub_memory_limit_bytes"           // gauge; 0 without one
	MetricHubMemoryUsed     = "mesh_hub_memory_used_bytes"            // gauge: what a collection cannot give back
	MetricHubLookup         = "mesh_hub_lookup_duration_seconds"      // histogram
	MetricHubCorrupt        = "mesh_hub_store_corruptions_total"      // counter
	MetricHubEdges          = "mesh_hub_graph_edges"                  // gauge
	MetricHubWatchers       = "mesh_hub_graph_watchers"               // gauge: open SSE streams
	MetricHubPolicyReloads  = "mesh_hub_policy_reloads_total"         // counter; result = accepted, refused
	MetricHubLeaseGrants    = "mesh_hub_lease_credits_granted_total"  // counter; limit
	MetricHubRateRequests   = "mesh_hub_ratelimit_requests_total"     // counter; domain, code: of Envoy's rate limit service
	MetricHubRateHits       = "mesh_hub_ratelimit_hits_total"         // counter; domain, rule, result = within_limit, over_limit, shadow_mode
	MetricHubRateNear       = "mesh_hub_ratelimit_near_limit_total"   // counter; domain, rule: hits within the limit and beyond 80 % of it
	MetricHubRateKeys       = "mesh_hub_ratelimit_keys"               // gauge: windows that are remembered
	MetricHubRateMaxKeys    = "mesh_hub_ratelimit_max_keys"           // gauge
	MetricHubRateBytes      = "mesh_hub_ratelimit_bytes"              // gauge: memory of the windows
	MetricHubRateReclaimed  = "mesh_hub_ratelimit_reclaimed_total"    // counter: windows forgotten after their end
	MetricHubRateOverflow   = "mesh_hub_ratelimit_overflow_total"     // counter: hits on keys for which there was no room
	MetricHubRateReloads    = "mesh_hub_ratelimit_reloads_total"      // counter; result = accepted, refused
	MetricHubAuthChecks     = "mesh_hub_authorization_checks_total"   // counter; result = allowed, denied, invalid: of Envoy's ext_authz
	MetricHubAuthRules      = "mesh_hub_authorization_rules_total"    // counter; policy, rule, decision
	MetricHubDetails        = "mesh_hub_details_total"                // counter; result = kept, unwritten
	MetricHubDetailBytes    = "mesh_hub_detail_bytes"                 // gauge
	MetricHubDetailOrders   = "mesh_hub_detail_orders_total"          // counter; result = sent, unreachable, shed
)

// Labels of the standard metrics.
const (
	LabelReporter                     = "reporter"
	LabelSourceWorkload               = "source_workload"
	LabelSourceWorkloadNamespace      = "source_workload_namespace"
	LabelSourcePrincipal              = "source_principal"
	LabelSourceApp                    = "source_app"
	LabelSourceVersion                = "source_version"
	LabelSourceCanonicalService       = "source_canonical_service"
	LabelSourceCanonicalRevision      = "source_canonical_revision"
	LabelSourceCluster                = "source_cluster"
	LabelDestinationWorkload          = "destination_workload"
	LabelDestinationWorkloadNamespace = "destination_workload_namespace"
	LabelDestinationPrincipal         = "destination_principal"
	LabelDestinationApp               = "destination_app"
	LabelDestinationVersion           = "destination_version"
	LabelDestinationCanonicalService  = "destination_canonical_service"
	LabelDestinationCanonicalRevision = "destination_canonical_revision"
	LabelDestinationCluster           = "destination_cluster"
	LabelDestinationService           = "destination_service"
	LabelDestinationServiceName       = "destination_service_name"
	LabelDestinationServiceNamespace  = "destination_service_namespace"
	LabelProtocol                     = "request_protocol"
	LabelCode                         = "response_code"
	LabelGRPCStatus                   = "grpc_response_status"
	LabelFlags                        = "response_flags"
	LabelSecurity                     = "connection_security_policy"
)

// Labels of the mesh_* and mesh_hub_* metrics, and of every histogram.
const (
	LabelNamespace = "namespace"
	LabelWorkload  = "workload"
	LabelService   = "service"
	LabelVersion   = "version"
	LabelSidecar   = "sidecar"   // name of the instance
	LabelDirection = "direction" // inbound, outbound
	LabelState     = "state"     // active, idle
	LabelPolicy    = "policy"
	LabelDomain    = "domain" // of Envoy's rate limits
	LabelOverall   = "code"   // of an answer to Envoy: OK, OVER_LIMIT, or gRPC's
	LabelRule      = "rule"
	LabelDecision  = "decision" // allow, deny, throttle, shadow_deny, shadow_throttle
	LabelOrigin    = "origin"   // local, lease, fallback
	LabelReason    = "reason"
	LabelResult    = "result"
	LabelOperation = "operation" // on the bucket: get, put, list, delete
	LabelKind      = "kind"
	LabelLimit     = "limit"
	LabelTrigger   = "trigger" // Trigger...
	LabelBucket    = "le"
)

// Values of the labels that have a fixed set of them.
const (
	ReporterSource      = "source"
	ReporterDestination = "destination"

	DirectionInbound  = "inbound"
	DirectionOutbound = "outbound"

	DecisionAllow          = "allow"
	DecisionDeny           = "deny"
	DecisionThrottle       = "throttle"
	DecisionShadowAllow    = "shadow_allow"
	DecisionShadowDeny     = "shadow_deny"
	DecisionShadowThrottle = "shadow_throttle"
	// DecisionAudit: an AUDIT policy matched, which only leaves a mark.
	DecisionAudit = "audit"
	// DecisionError: an expression could not be evaluated, so its rule did not match.
	DecisionError = "error"
)

// SidecarLabels are on every series that the hub serves about a sidecar,
// before the metric's own.
var SidecarLabels = []string{LabelNamespace, LabelWorkload, LabelService, LabelVersion, LabelSidecar}

// RequestLabels are the labels of the HTTP and gRPC metrics, always all
// present, in the order in which series carry their values.
var RequestLabels = []string{
	LabelReporter,
	LabelSourceWorkload, LabelSourceWorkloadNamespace, LabelSourcePrincipal, LabelSourceApp,
	LabelSourceVersion, LabelSourceCanonicalService, LabelSourceCanonicalRevision, LabelSourceCluster,
	LabelDestinationWorkload, LabelDestinationWorkloadNamespace, LabelDestinationPrincipal, LabelDestinationApp,
	LabelDestinationVersion, LabelDestinationCanonicalService, LabelDestinationCanonicalRevision, LabelDestinationCluster,
	LabelDestinationService, LabelDestinationServiceName, LabelDestinationServiceNamespace,
	LabelProtocol, LabelCode, LabelGRPCStatus, LabelFlags, LabelSecurity,
}

// TCPLabels are the labels of the TCP metrics: those of requests without their
// statuses, in the same order.
var TCPLabels = slices.DeleteFunc(slices.Clone(RequestLabels), func(l string) bool { return l == LabelCode || l == LabelGRPCStatus })

// ProtocolTCP is an opaque connection's protocol. It is no request: Istio's
// metrics of requests leave it out and those of TCP count it.
const ProtocolTCP = "tcp"

// DurationBuckets are the upper bounds in milliseconds of the lean profile.
// All are bounds of Envoy's default, so a mixed fleet adds up.
var DurationBuckets = []float64{1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}

// SizeBuckets are the upper bounds in bytes, again all Envoy bounds.
var SizeBuckets = []float64{100, 1000, 10000, 60000, 600000, 3600000}

// Unknown and Latest stand for a missing value and a missing revision, as in
// Istio.
const (
	Unknown = "unknown"
	Latest  = "latest"
	NoFlags = "-"
)

// Verdicts of local policy, as records, series and the graph carry them.
const (
	VerdictOK              = "ok"
	VerdictDenied          = "denied"
	VerdictThrottled       = "throttled"
	VerdictShadowDenied    = "shadow_denied"
	VerdictShadowThrottled = "shadow_throttled"
	VerdictAudited         = "audited"
)

// Envoy's response flags that the sidecar sets (Envoy access log, RESPONSE_FLAGS).
const (
	FlagDownstreamTermination = "DC"
	FlagNoHealthyUpstream     = "UH"
	FlagUpstreamConnect       = "UF"
	FlagUpstreamTermination   = "UC"
	FlagUpstreamReset         = "UR"
	FlagUpstreamTimeout       = "UT"
	FlagUpstreamOverflow      = "UO"
	FlagNoRoute               = "NR"
	FlagRateLimited           = "RL"
	FlagDownstreamProtocol    = "DPE"
	FlagUpstreamProtocol      = "UPE"
	FlagRetryLimit            = "URX"
	FlagStreamIdle            = "SI"
)

// Headers of the mesh.
const (
	HeaderRequestID   = "x-request-id"
	HeaderTraceparent = "traceparent"
	HeaderTracestate  = "tracestate"
	// Trace contexts of others: B3 in one header or in several, Jaeger's and
	// OpenCensus' for gRPC.
	HeaderB3           = "b3"
	HeaderB3TraceID    = "x-b3-traceid"
	HeaderB3SpanID     = "x-b3-spanid"
	HeaderB3Parent     = "x-b3-parentspanid"
	HeaderB3Sampled    = "x-b3-sampled"
	HeaderB3Flags      = "x-b3-flags"
	HeaderUberTraceID  = "uber-trace-id"
	HeaderGRPCTraceBin = "grpc-trace-bin"
	// HeaderPeer carries a sidecar's identity to the next sidecar, on requests
	// and on responses. It never reaches an application.
	HeaderPeer = "x-telemesh-peer"
	// HeaderVerdict tells the caller's sidecar what the callee's policy said:
	// verdict and rule, separated by a semicolon. Responses only; it never
	// reaches an application.
	HeaderVerdict = "x-telemesh-verdict"
	// TrailerRefusedSequence names, at the end of a telemetry stream, the batch
	// that the hub will never take.
	TrailerRefusedSequence = "x-telemesh-refused-sequence"
)

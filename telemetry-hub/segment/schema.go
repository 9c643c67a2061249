package segment

import (
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// Column is a leaf column of the table. Its number is its place in files of
// schemaVersion; files of other versions are read by name.
type Column uint8

// The columns. Edges are named as the labels of the standard metrics, so that a
// query can join the two; requests as the columns of the record codec.
const (
	Start Column = iota
	Duration
	FirstByte
	Code
	GRPCStatus // null when the request was not gRPC
	BytesIn
	BytesOut
	Attempts
	Sampled
	TraceID
	SpanID
	ParentSpanID
	Sender
	Reporter
	SourceCluster
	SourceNamespace
	SourceWorkload
	SourceService
	SourceVersion
	SourcePrincipal
	SourceInstance
	DestinationCluster
	DestinationNamespace
	DestinationWorkload
	DestinationService // canonical service
	DestinationVersion
	DestinationPrincipal
	DestinationInstance
	DestinationHost // fully qualified service that the request asked for
	Security
	RequestID
	Protocol
	HTTPVersion
	Method
	Path
	Host
	Route
	Flags
	Detail
	Upstream
	Verdict
	Rule
	UserAgent
	AttributeKeys   // of the map column attributes
	AttributeValues // of the map column attributes
	numColumns

	firstOrigin = Sender
	lastOrigin  = Security
	numOrigin   = int(lastOrigin-firstOrigin) + 1
	firstText   = RequestID
	lastText    = UserAgent
	// numText counts the text columns of a record, the last being attributes in
	// the joined form of the wire.
	numText = int(lastText-firstText) + 2
)

// kind is how a column is stored. The numbers stand in index files.
type kind uint8

const (
	kindTime     kind = 1 // INT64 timestamp in nanoseconds UTC, DELTA_BINARY_PACKED
	kindLong     kind = 2 // INT64, DELTA_BINARY_PACKED
	kindInt      kind = 3 // INT32, dictionary
	kindNullInt  kind = 4 // optional INT32, dictionary
	kindBool     kind = 5 // BOOLEAN, plain
	kindUUID     kind = 6 // FIXED_LEN_BYTE_ARRAY(16), dictionary
	kindID       kind = 7 // FIXED_LEN_BYTE_ARRAY(8), plain
	kindText     kind = 8 // BYTE_ARRAY, UTF-8, dictionary
	kindMapKey   kind = 9 // as text, repeated
	kindMapValue kind = 10
)

// mapName is the column that AttributeKeys and AttributeValues make up.
const mapName = "attributes"

// spec of a column.
type spec struct {
	name string
	kind kind
	wire int // column of the record codec, 0 if the edge or the batch has it
}

// specs is the table's schema.
var specs = [numColumns]spec{
	Start:                {"start", kindTime, vocab.ColStart},
	Duration:             {"duration", kindLong, vocab.ColDuration},
	FirstByte:            {"first_byte", kindLong, vocab.ColFirstByte},
	Code:                 {"code", kindInt, vocab.ColCode},
	GRPCStatus:           {"grpc_status", kindNullInt, vocab.ColGRPCStatus},
	BytesIn:              {"bytes_in", kindLong, vocab.ColBytesIn},
	BytesOut:             {"bytes_out", kindLong, vocab.ColBytesOut},
	Attempts:             {"attempts", kindInt, vocab.ColAttempts},
	Sampled:              {"sampled", kindBool, vocab.ColSampled},
	TraceID:              {"trace_id", kindUUID, vocab.ColTraceID},
	SpanID:               {"span_id", kindID, vocab.ColSpanID},
	ParentSpanID:         {"parent_span_id", kindID, vocab.ColParentSpanID},
	Sender:               {"sender", kindText, 0},
	Reporter:             {vocab.LabelReporter, kindText, 0},
	SourceCluster:        {vocab.LabelSourceCluster, kindText, 0},
	SourceNamespace:      {vocab.LabelSourceWorkloadNamespace, kindText, 0},
	SourceWorkload:       {vocab.LabelSourceWorkload, kindText, 0},
	SourceService:        {vocab.LabelSourceCanonicalService, kindText, 0},
	SourceVersion:        {vocab.LabelSourceVersion, kindText, 0},
	SourcePrincipal:      {vocab.LabelSourcePrincipal, kindText, 0},
	SourceInstance:       {"source_instance", kindText, 0},
	DestinationCluster:   {vocab.LabelDestinationCluster, kindText, 0},
	DestinationNamespace: {vocab.LabelDestinationWorkloadNamespace, kindText, 0},
	DestinationWorkload:  {vocab.LabelDestinationWorkload, kindText, 0},
	DestinationService:   {vocab.LabelDestinationCanonicalService, kindText, 0},
	DestinationVersion:   {vocab.LabelDestinationVersion, kindText, 0},
	DestinationPrincipal: {vocab.LabelDestinationPrincipal, kindText, 0},
	DestinationInstance:  {"destination_instance", kindText, 0},
	DestinationHost:      {vocab.LabelDestinationService, kindText, 0},
	Security:             {vocab.LabelSecurity, kindText, 0},
	RequestID:            {"request_id", kindText, vocab.ColRequestID},
	Protocol:             {"protocol", kindText, vocab.ColProtocol},
	HTTPVersion:          {"http_version", kindText, vocab.ColVersion},
	Method:               {"method", kindText, vocab.ColMethod},
	Path:                 {"path", kindText, vocab.ColPath},
	Host:                 {"host", kindText, vocab.ColHost},
	Route:                {"route", kindText, vocab.ColRoute},
	Flags:                {"flags", kindText, vocab.ColFlags},
	Detail:               {"detail", kindText, vocab.ColDetail},
	Upstream:             {"upstream", kindText, vocab.ColUpstream},
	Verdict:              {"verdict", kindText, vocab.ColVerdict},
	Rule:                 {"rule", kindText, vocab.ColRule},
	UserAgent:            {"user_agent", kindText, vocab.ColUserAgent},
	AttributeKeys:        {mapName + ".key_value.key", kindMapKey, vocab.ColAttributes},
	AttributeValues:      {mapName + ".key_value.value", kindMapValue, vocab.ColAttributes},
}

// String is the name of the column in the file.
func (c Column) String() string {
	if c >= numColumns {
		return "unknown"
	}
	return specs[c].name
}

// origin is where a record comes from: the texts of its batch and edge, in the
// order of the columns from Sender to Security.
type origin [numOrigin]string

func originOf(sender string, e *telemetryv1.Edge) origin {
	s, d := e.GetSource(), e.GetDestination()
	return origin{
		sender, reporterText(e.GetReporter()),
		s.GetCluster(), s.GetNamespace(), s.GetWorkload(), s.GetService(), s.GetVersion(), s.GetPrincipal(), s.GetInstance(),
		d.GetCluster(), d.GetNamespace(), d.GetWorkload(), d.GetService(), d.GetVersion(), d.GetPrincipal(), d.GetInstance(),
		e.GetDestinationService(), e.GetSecurity(),
	}
}

func (o *origin) at(c Column) string { return o[c-firstOrigin] }

// edge is the message that the origin was made of. An end about which nothing
// is known is left out.
func (o *origin) edge() *telemetryv1.Edge {
	return &telemetryv1.Edge{
		Reporter:           reporterOf(o.at(Reporter)),
		Source:             identity(o[SourceCluster-firstOrigin:]),
		Destination:        identity(o[DestinationCluster-firstOrigin:]),
		DestinationService: o.at(DestinationHost),
		Security:           o.at(Security),
	}
}

// identity reads the seven columns of one end.
func identity(s []string) *telemetryv1.Identity {
	if [7]string(s) == ([7]string{}) {
		return nil
	}
	return &telemetryv1.Identity{
		Cluster: s[0], Namespace: s[1], Workload: s[2], Service: s[3], Version: s[4], Principal: s[5], Instance: s[6],
	}
}

func reporterText(r telemetryv1.Reporter) string {
	switch r {
	case telemetryv1.Reporter_REPORTER_SOURCE:
		return vocab.ReporterSource
	case telemetryv1.Reporter_REPORTER_DESTINATION:
		return vocab.ReporterDestination
	}
	return ""
}

func reporterOf(s string) telemetryv1.Reporter {
	switch s {
	case vocab.ReporterSource:
		return telemetryv1.Reporter_REPORTER_SOURCE
	case vocab.ReporterDestination:
		return telemetryv1.Reporter_REPORTER_DESTINATION
	}
	return telemetryv1.Reporter_REPORTER_UNSPECIFIED
}

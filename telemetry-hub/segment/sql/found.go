package sql

import (
	"encoding/hex"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/segment"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// foundValue is one column of a record that a look-up found.
func foundValue(f *segment.Found, c segment.Column) Value {
	r := &f.Record
	number := func(n int64) Value { return Value{Kind: KindInt, Int: n} }
	switch c {
	case segment.Start:
		return Value{Kind: KindTime, Int: r.Start.UnixNano()}
	case segment.Duration:
		return number(int64(r.Duration))
	case segment.FirstByte:
		return number(int64(r.FirstByte))
	case segment.Code:
		return number(int64(r.Code))
	case segment.GRPCStatus:
		if r.GRPCStatus == 0 { // one above the status
			return Value{}
		}
		return number(int64(r.GRPCStatus) - 1)
	case segment.BytesIn:
		return number(int64(r.BytesIn))
	case segment.BytesOut:
		return number(int64(r.BytesOut))
	case segment.Attempts:
		return number(int64(r.Attempts))
	case segment.Sampled:
		return Value{Kind: KindBool, Int: truth(r.Sampled)}
	}
	return Value{Kind: KindText, Text: foundText(f, c)}
}

func foundText(f *segment.Found, c segment.Column) string {
	r := &f.Record
	switch c {
	case segment.TraceID:
		return ids.TraceID(r.TraceID).UUID()
	case segment.SpanID:
		return hex.EncodeToString(r.SpanID[:])
	case segment.ParentSpanID:
		return hex.EncodeToString(r.ParentSpanID[:])
	case segment.RequestID:
		return r.RequestID
	case segment.Protocol:
		return r.Protocol
	case segment.HTTPVersion:
		return r.HTTPVersion
	case segment.Method:
		return r.Method
	case segment.Path:
		return r.Path
	case segment.Host:
		return r.Host
	case segment.Route:
		return r.Route
	case segment.Flags:
		return r.Flags
	case segment.Detail:
		return r.Detail
	case segment.Upstream:
		return r.Upstream
	case segment.Verdict:
		return r.Verdict
	case segment.Rule:
		return r.Rule
	case segment.UserAgent:
		return r.UserAgent
	case segment.Sender:
		return f.Sender
	case segment.DestinationHost:
		return f.Edge.GetDestinationService()
	case segment.Security:
		return f.Edge.GetSecurity()
	case segment.Reporter:
		switch f.Edge.GetReporter() {
		case telemetryv1.Reporter_REPORTER_SOURCE:
			return vocab.ReporterSource
		case telemetryv1.Reporter_REPORTER_DESTINATION:
			return vocab.ReporterDestination
		}
		return ""
	}
	if c >= segment.SourceCluster && c <= segment.SourceInstance {
		return identityText(f.Edge.GetSource(), c-segment.SourceCluster)
	}
	return identityText(f.Edge.GetDestination(), c-segment.DestinationCluster)
}

// identityText is one of the columns of an end, in the order of the schema.
func identityText(i *telemetryv1.Identity, column segment.Column) string {
	texts := [...]string{i.GetCluster(), i.GetNamespace(), i.GetWorkload(), i.GetService(), i.GetVersion(), i.GetPrincipal(), i.GetInstance()}
	if int(column) >= len(texts) {
		return ""
	}
	return texts[column]
}

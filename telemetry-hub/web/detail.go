package web

import (
	"context"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/details"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

const (
	// maxDetailWait bounds how long an answer waits for details.
	maxDetailWait = 2 * time.Second
	noDetail      = -1
	keptDetail    = -2
	// maxDetailed bounds the records of one answer that have details.
	maxDetailed = 200
)

// detailWait reads ?detail=.
func detailWait(s string) (wait time.Duration, ok bool) {
	switch s {
	case "":
		return 0, true
	case "wait":
		return maxDetailWait, true
	case "kept":
		return keptDetail, true
	case "no":
		return noDetail, true
	}
	return 0, false
}

// addDetails gives the records of a trace their details, or why there are none.
func (s *Server) addDetails(ctx context.Context, t *topologyv1.Trace, found []store.Found, wait time.Duration) {
	if s.o.Details == nil {
		return
	}
	hops := make([]details.Hop, 0, min(len(found), maxDetailed))
	for i := range found[:min(len(found), maxDetailed)] {
		hops = append(hops, details.HopOf(&found[i]))
	}
	var byKey map[details.Key]details.Answer
	if wait == keptDetail {
		byKey = s.o.Details.Kept(hops)
	} else {
		byKey = s.o.Details.Ask(ctx, hops, wait)
	}
	answers := make(map[string]details.Answer, len(hops))
	for k, a := range byKey {
		reporter := "source"
		if k.Reporter == telemetryv1.Reporter_REPORTER_DESTINATION {
			reporter = "destination"
		}
		answers[detailKey(ids.TraceID(k.Trace).String(), ids.SpanID(k.Span).String(), reporter)] = a
	}
	for i := range t.Hops {
		for _, r := range []*topologyv1.Record{t.Hops[i].Client, t.Hops[i].Server} {
			if r == nil {
				continue
			}
			a, ok := answers[detailKey(r.TraceID, r.SpanID, r.Reporter)]
			switch {
			case !ok:
				r.DetailsMissing = "the trace has too many records for each to have its details"
			case a.Detail != nil:
				r.Details = details.View(a.Detail)
			default:
				r.DetailsMissing, r.DetailsPending = a.Missing, a.Pending
			}
		}
	}
}

func detailKey(trace, span, reporter string) string { return trace + span + reporter }

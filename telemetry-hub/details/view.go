package details

import (
	"fmt"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// reasonBusy is the hub's own: it asks no more just now.
const reasonBusy = "busy"

// why says in words why a hop has no detail, and whether it may still come.
func (c *Collector) why(s state, h Hop) (missing string, pending bool) {
	sidecar := "sidecar " + h.Instance
	switch {
	case h.Instance == "":
		return "the record names no sidecar to ask", false
	case s.reason == reasonBusy:
		return "the hub asks sidecars for no more details just now; open the request again in a second", false
	case !s.sent:
		return sidecar + " is not connected, and nothing had made it send the detail before; meshctl status lists the sidecars", false
	case !s.answered && time.Since(s.at) < patience:
		return sidecar + " has been asked for it", true
	case !s.answered:
		return sidecar + " did not answer: it may be of a version that keeps no details", false
	}
	switch s.reason {
	case vocab.NoDetailRingOff:
		return sidecar + " keeps no details: it runs with --detail-bytes 0", false
	case vocab.NoDetailBudget, vocab.NoDetailQueueFull:
		return sidecar + " sends no more details just now; open the request again in a second", false
	case vocab.NoDetailNotInRing:
		if s.keptOneOf > 1 && h.End.After(s.at.Add(-s.horizon)) { // else it may have been kept, and is too old
			return fmt.Sprintf("not kept: so many requests pass %s that it keeps one trace in %d, and what failed; more --detail-bytes keep more", sidecar, s.keptOneOf), false
		}
		return "too old: " + sidecar + " keeps about " + seconds(s.horizon) + "; more --detail-bytes reach further back", false
	}
	if time.Since(s.at) < patience {
		return sidecar + " is sending it", true
	}
	return sidecar + " found another request of the trace, and not this one: it is too old by now", false
}

func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f seconds", d.Seconds())
	case d < 3*time.Minute:
		return fmt.Sprintf("%.0f seconds", d.Seconds())
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}

// View is a detail in the API's form.
func View(d *telemetryv1.Detail) *topologyv1.Details {
	v := &topologyv1.Details{
		Trigger: d.GetTrigger(), Request: head(d.GetRequest()), Response: head(d.GetResponse()), Trailers: head(d.GetTrailers()),
		Attempts: []topologyv1.Attempt{}, Decisions: []topologyv1.Decision{},
		DurationMs: ms(d.GetDurationNanos()), FirstByteMs: ms(d.GetFirstByteNanos()), PolicyMs: ms(d.GetPolicyNanos()),
	}
	for _, a := range d.GetAttempts() {
		v.Attempts = append(v.Attempts, topologyv1.Attempt{
			Upstream: a.GetUpstream(), OffsetMs: ms(a.GetStartNanos()), ConnectMs: ms(a.GetConnectNanos()), FirstByteMs: ms(a.GetFirstByteNanos()),
			DurationMs: ms(a.GetDurationNanos()), Code: a.GetStatus(), GRPCStatus: a.GetGrpcStatus(), Result: a.GetResult(), Detail: a.GetDetail(),
		})
	}
	for _, p := range d.GetDecisions() {
		v.Decisions = append(v.Decisions, topologyv1.Decision{
			Policy: p.GetPolicy(), Rule: p.GetRule(), Verdict: p.GetVerdict(), DurationMs: ms(p.GetDurationNanos()),
		})
	}
	return v
}

func head(h *telemetryv1.Head) *topologyv1.Head {
	if h == nil {
		return nil
	}
	v := &topologyv1.Head{Line: h.GetLine(), Fields: []topologyv1.HeaderField{}, Truncated: h.GetTruncated()}
	for _, f := range h.GetFields() {
		v.Fields = append(v.Fields, topologyv1.HeaderField{Name: f.GetName(), Value: f.GetValue(), Redacted: f.GetRedacted()})
	}
	return v
}

func ms(nanos int64) float64 { return float64(nanos) / 1e6 }

package ratelimit

import (
	"math"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	policy "github.com/telemesh/telemesh/policy-check"
)

// answer is one request on its way to its response.
type answer struct {
	server  *Server
	request *rlsv3.RateLimitRequest
	domain  *served // nil for an unknown one
	now     int64   // seconds since 1970
}

func (a *answer) respond() *rlsv3.RateLimitResponse {
	descriptors := a.request.GetDescriptors()
	resp := &rlsv3.RateLimitResponse{
		OverallCode: rlsv3.RateLimitResponse_OK,
		Statuses:    make([]*rlsv3.RateLimitResponse_DescriptorStatus, len(descriptors)),
	}
	var room [8]limit
	limits := a.limits(room[:0])
	for i := range limits {
		resp.Statuses[i] = a.status(descriptors[i], &limits[i])
	}
	if overLimit(limits, resp.GetStatuses()) {
		resp.OverallCode = rlsv3.RateLimitResponse_OVER_LIMIT
	}
	if a.server.opts.Headers {
		resp.ResponseHeadersToAdd = headers(limits, resp.GetStatuses())
	}
	resp.DynamicMetadata = a.metadata(limits, resp.GetStatuses())
	return resp
}

// limits finds what applies to each descriptor, without those that a limit of
// another descriptor of the request replaces.
func (a *answer) limits(into []limit) []limit {
	var replaced []string
	for _, d := range a.request.GetDescriptors() {
		into = append(into, a.limit(d))
		if r := into[len(into)-1].rule; r != nil {
			replaced = append(replaced, r.replaces...)
		}
	}
	if len(replaced) == 0 {
		return into
	}
	for i := range into {
		// As in envoyproxy/ratelimit an unlimited descriptor replaces others
		// and is not replaced itself: there is nothing to leave out.
		if r := into[i].rule; r != nil && !r.unlimited && r.name != "" && slices.Contains(replaced, r.name) {
			into[i] = limit{}
		}
	}
	return into
}

// limit finds what applies to one descriptor: the limit that it brings along,
// else that of its domain.
func (a *answer) limit(d *commonv3.RateLimitDescriptor) limit {
	if a.domain == nil {
		return limit{}
	}
	if o := d.GetLimit(); o != nil {
		return limit{
			limit: &rlsv3.RateLimitResponse_RateLimit{
				RequestsPerUnit: o.GetRequestsPerUnit(), Unit: rlsv3.RateLimitResponse_RateLimit_Unit(o.GetUnit()),
			},
			hits: a.domain.override,
		}
	}
	m := a.domain.match(d.GetEntries(), make([]*descriptor, 0, len(d.GetEntries())))
	if m.rule == nil {
		return limit{}
	}
	l := limit{match: m, hits: a.domain.hits[m.rule.index]}
	if m.spelled {
		l.hits = a.server.series.spelledHitsOf(a.domain.Name, m.path(d.GetEntries()))
	}
	if !m.rule.unlimited {
		l.limit = m.rule.limit
	}
	return l
}

// status counts a descriptor and says how it stands.
func (a *answer) status(d *commonv3.RateLimitDescriptor, l *limit) *rlsv3.RateLimitResponse_DescriptorStatus {
	h := hitsOf(a.request, d)
	st := &rlsv3.RateLimitResponse_DescriptorStatus{Code: rlsv3.RateLimitResponse_OK}
	if l.limit == nil {
		if l.rule != nil { // unlimited
			st.LimitRemaining = math.MaxUint32
			if !h.refill {
				l.hits.within.Add(h.n)
			}
		}
		return st
	}
	window := windowSeconds(l.limit.GetUnit())
	reset := window - a.now%window
	st.CurrentLimit = l.limit
	st.DurationUntilReset = &durationpb.Duration{Seconds: reset}
	before, after := a.count(d, l, h, a.now+reset)
	most := uint64(l.limit.GetRequestsPerUnit())
	shadow := l.rule != nil && l.rule.shadow
	if !h.refill {
		l.hits.count(before, after, most, shadow)
	}
	switch {
	case after <= most:
		st.LimitRemaining = uint32(most - after)
	case !shadow:
		st.Code = rlsv3.RateLimitResponse_OVER_LIMIT
	}
	return st
}

// count adds a descriptor's hits to its window, which ends at end. Beyond the
// most keys the overflow decides.
func (a *answer) count(d *commonv3.RateLimitDescriptor, l *limit, h hit, end int64) (before, after uint64) {
	var room [256]byte
	c := a.server.counters
	key := c.hash(l.appendKey(room[:0], a.domain.Name, d.GetEntries()))
	before, after, ok := c.add(key, a.now, end, h)
	if ok {
		return before, after
	}
	a.server.overflowed.Add(h.n)
	most := uint64(l.limit.GetRequestsPerUnit())
	switch a.server.opts.Overflow {
	case policy.OverflowAllow:
		return 0, min(h.n, most)
	case policy.OverflowDeny:
		return most, max(most+h.n, most+1)
	}
	h.force = true // there are no more of these keys than rules
	before, after, _ = c.add(c.hash(l.appendOverflowKey(room[:0], a.domain.Name)), a.now, end, h)
	return before, after
}

// overLimit tells whether the request as a whole is over the limit: when a
// descriptor is that has no quota_mode, or all are that have it.
func overLimit(limits []limit, statuses []*rlsv3.RateLimitResponse_DescriptorStatus) bool {
	quotas, used := 0, 0
	for i, st := range statuses {
		over := st.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT
		quota := limits[i].limit != nil && limits[i].rule != nil && limits[i].rule.quota
		switch {
		case over && !quota:
			return true
		case quota && over:
			quotas, used = quotas+1, used+1
		case quota:
			quotas++
		}
	}
	return quotas > 0 && used == quotas
}

// headers describe the descriptor that is over its limit, the last if there are
// several, else the one with the least left.
func headers(limits []limit, statuses []*rlsv3.RateLimitResponse_DescriptorStatus) []*corev3.HeaderValue {
	var nearest *rlsv3.RateLimitResponse_DescriptorStatus
	var over bool
	for i, st := range statuses {
		if limits[i].limit == nil {
			continue
		}
		switch {
		case st.GetCode() == rlsv3.RateLimitResponse_OVER_LIMIT && (limits[i].rule == nil || !limits[i].rule.quota):
			nearest, over = st, true
		case !over && (nearest == nil || st.GetLimitRemaining() < nearest.GetLimitRemaining()):
			nearest = st
		}
	}
	if nearest == nil {
		return nil
	}
	return []*corev3.HeaderValue{
		{Key: "RateLimit-Limit", Value: strconv.FormatUint(uint64(nearest.GetCurrentLimit().GetRequestsPerUnit()), 10)},
		{Key: "RateLimit-Remaining", Value: strconv.FormatUint(uint64(nearest.GetLimitRemaining()), 10)},
		{Key: "RateLimit-Reset", Value: strconv.FormatInt(nearest.GetDurationUntilReset().GetSeconds(), 10)},
	}
}

// metadata is what the descriptors within their limits tell Envoy, beside the
// request itself, in the form that envoyproxy/ratelimit gives it. It is nil
// when none has any.
func (a *answer) metadata(limits []limit, statuses []*rlsv3.RateLimitResponse_DescriptorStatus) *structpb.Struct {
	var told *structpb.Struct
	for i, st := range statuses {
		if st.GetCode() != rlsv3.RateLimitResponse_OK || limits[i].limit == nil || limits[i].rule == nil || limits[i].rule.metadata == nil {
			continue
		}
		if told == nil {
			told = &structpb.Struct{Fields: make(map[string]*structpb.Value)}
		}
		merge(told, limits[i].rule.metadata)
	}
	if told == nil {
		return nil
	}
	descriptors := make([]*structpb.Value, len(statuses))
	for i, d := range a.request.GetDescriptors() {
		entries := make([]*structpb.Value, len(d.GetEntries()))
		for j, e := range d.GetEntries() {
			entries[j] = structpb.NewStringValue(e.GetKey() + "=" + e.GetValue())
		}
		descriptors[i] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"entries": structpb.NewListValue(&structpb.ListValue{Values: entries}),
		}})
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"domain":      structpb.NewStringValue(a.request.GetDomain()),
		"descriptors": structpb.NewListValue(&structpb.ListValue{Values: descriptors}),
		"metadata":    structpb.NewStructValue(told),
	}}
}

// merge adds the fields that into does not have, also within structs that both
// have. Nothing of from is shared afterwards.
func merge(into, from *structpb.Struct) {
	for k, v := range from.GetFields() {
		have, ok := into.GetFields()[k]
		switch {
		case !ok:
			into.Fields[k] = proto.CloneOf(v)
		case have.GetStructValue() != nil && v.GetStructValue() != nil:
			merge(have.GetStructValue(), v.GetStructValue())
		}
	}
}

package counters

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Snapshot is every row of every stream, for exposition. The rows are shared
// and must not be changed.
func (s *State) Snapshot() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var edges []*telemetryv1.Edge
	var rows []*telemetryv1.Aggregate
	for _, st := range s.all() {
		for _, r := range st.rows {
			a := shallow(r.last)
			a.Edge = uint32(len(edges))
			edges, rows = append(edges, r.edge), append(rows, a)
		}
	}
	return edges, rows
}

// shallow copies a row but not its lists.
func shallow(a *telemetryv1.Aggregate) *telemetryv1.Aggregate {
	return &telemetryv1.Aggregate{
		Protocol: a.GetProtocol(), ResponseCode: a.GetResponseCode(), GrpcStatus: a.GetGrpcStatus(), ResponseFlags: a.GetResponseFlags(),
		Verdict: a.GetVerdict(), Requests: a.GetRequests(),
		DurationIndex: a.GetDurationIndex(), DurationCount: a.GetDurationCount(), DurationBucket: a.GetDurationBucket(), DurationSumNanos: a.GetDurationSumNanos(),
		RequestBytesBucket: a.GetRequestBytesBucket(), RequestBytesSum: a.GetRequestBytesSum(),
		ResponseBytesBucket: a.GetResponseBytesBucket(), ResponseBytesSum: a.GetResponseBytesSum(), Exemplars: a.GetExemplars(),
	}
}

// PolicyCount is one rule's verdicts at one workload.
type PolicyCount struct {
	Node                           *telemetryv1.Identity
	Policy, Rule, Decision, Origin string
	Count                          uint64
}

// Policies sums the verdicts over the epochs of each sidecar, in a fixed order.
func (s *State) Policies() []PolicyCount {
	type key struct {
		instance string
		policyKey
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	sums := make(map[key]*PolicyCount)
	for _, st := range s.all() {
		for k, n := range st.policy {
			full := key{st.node.GetInstance(), k}
			if sums[full] == nil {
				sums[full] = &PolicyCount{Node: st.node, Policy: k.policy, Rule: k.rule, Decision: k.decision, Origin: k.origin}
			}
			sums[full].Count += n
		}
	}
	return sorted(sums, func(c *PolicyCount) string {
		return strings.Join([]string{c.Node.GetInstance(), c.Policy, c.Rule, c.Decision, c.Origin}, "\xff")
	})
}

// DropCount is what one sidecar had to drop.
type DropCount struct {
	Node   *telemetryv1.Identity
	Reason string
	Count  uint64
}

// Dropped sums the lost records over the epochs of each sidecar.
func (s *State) Dropped() []DropCount {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sums := make(map[string]*DropCount)
	for _, st := range s.all() {
		for reason, n := range st.dropped {
			k := st.node.GetInstance() + "\xff" + reason
			if sums[k] == nil {
				sums[k] = &DropCount{Node: st.node, Reason: reason}
			}
			sums[k].Count += n
		}
	}
	return sorted(sums, func(c *DropCount) string { return c.Node.GetInstance() + "\xff" + c.Reason })
}

// Missing counts batches that senders forgot before they arrived.
func (s *State) Missing() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.missing
}

func sorted[K comparable, V any](m map[K]*V, by func(*V) string) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b V) int { return cmp.Compare(by(&a), by(&b)) })
	return out
}

// all is every stream and every base, the one that spoke last first: where one
// node stands for several epochs it is the newest.
func (s *State) all() []*stream {
	list := slices.Collect(maps.Values(s.streams))
	for _, b := range s.bases {
		list = append(list, &b.stream)
	}
	slices.SortFunc(list, func(a, b *stream) int { return cmp.Compare(b.used, a.used) })
	return list
}

// Export is the whole state as batches: applied in order to an empty state they
// give this one. The log keeps it when it drops its oldest part.
func (s *State) Export() []*telemetryv1.Batch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*telemetryv1.Batch
	for _, sender := range slices.Sorted(maps.Keys(s.bases)) {
		out = append(out, s.bases[sender].export(sender)...)
	}
	ids := slices.Collect(maps.Keys(s.streams))
	slices.SortFunc(ids, func(a, b Stream) int { return cmp.Compare(s.streams[a].used, s.streams[b].used) })
	for _, id := range ids {
		st := s.streams[id]
		b := st.export()
		b.Sender, b.Epoch, b.Sequence = id.Sender, id.Epoch, st.sequence
		out = append(out, b)
	}
	return out
}

// export is the content of a stream, its edges named once each.
func (st *stream) export() *telemetryv1.Batch {
	b := &telemetryv1.Batch{Node: st.node}
	known := make(map[*telemetryv1.Edge]uint32)
	for _, key := range slices.Sorted(maps.Keys(st.rows)) {
		r := st.rows[key]
		i, ok := known[r.edge]
		if !ok {
			i = uint32(len(b.GetEdges()))
			known[r.edge] = i
			b.Edges = append(b.Edges, r.edge)
		}
		a := shallow(r.last)
		a.Edge = i
		b.Aggregates = append(b.Aggregates, a)
	}
	for k, n := range st.policy {
		b.PolicyCounters = append(b.PolicyCounters, &telemetryv1.PolicyCounter{Policy: k.policy, Rule: k.rule, Decision: k.decision, Origin: k.origin, Count: n})
	}
	for _, reason := range slices.Sorted(maps.Keys(st.dropped)) {
		b.Dropped = append(b.Dropped, &telemetryv1.Dropped{Reason: reason, Records: st.dropped[reason]})
	}
	return b
}

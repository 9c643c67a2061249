// Package counters keeps what every sidecar has counted, exactly once. Rows of
// tier 0 are cumulative per sender and epoch, so applying a batch means taking
// the difference to the row before; a batch that came already changes nothing.
package counters

import (
	"encoding/binary"
	"math"
	"sync"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Stream identifies one process of one sidecar.
type Stream struct {
	Sender string
	Epoch  uint64
}

// Delta is what one batch added to one series.
type Delta struct {
	Edge *telemetryv1.Edge
	// Row holds differences, not totals; its Edge index has no meaning.
	Row *telemetryv1.Aggregate
}

// State is the sum of everything applied. Safe for concurrent use.
type State struct {
	mu      sync.RWMutex // guards the fields below
	streams map[Stream]*stream
	bases   map[string]*base // by sender
	applied uint64           // batches so far: the clock of stream.used
	missing uint64
}

// stream is what one process has told so far.
type stream struct {
	sequence uint64
	used     uint64 // when the newest batch came, in batches
	rows     map[string]*row
	policy   map[policyKey]uint64
	dropped  map[string]uint64
	node     *telemetryv1.Identity
	// holed: a batch is missing whose series may not have changed since.
	holed bool
}

type row struct {
	edge *telemetryv1.Edge
	last *telemetryv1.Aggregate
}

type policyKey struct{ policy, rule, decision, origin string }

// New returns an empty state.
func New() *State {
	return &State{streams: make(map[Stream]*stream), bases: make(map[string]*base)}
}

func newStream() *stream {
	return &stream{rows: make(map[string]*row), policy: make(map[policyKey]uint64), dropped: make(map[string]uint64)}
}

// Verdict says what the state makes of a batch before it is applied.
type Verdict struct {
	Duplicate bool
	// Resync: a batch of this epoch is missing, so a series that has not changed
	// since may be, too.
	Resync bool
	// Missing batches between the last one and this.
	Missing uint64
}

// closed is the sequence under which Export tells of a folded epoch. No sender
// reaches it.
const closed = math.MaxUint64

// Judge looks a batch up without applying it. A batch with a sequence that no
// sender gives counts as a duplicate. It asks for a resync once for a hole that
// Apply met, which may have been in a damaged log.
func (s *State) Judge(b *telemetryv1.Batch) Verdict {
	if b.GetSequence() == 0 || b.GetSequence() == closed {
		return Verdict{Duplicate: true}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folded(b) {
		return Verdict{Duplicate: true}
	}
	known := s.streams[Stream{b.GetSender(), b.GetEpoch()}]
	if known == nil {
		return Verdict{Resync: b.GetSequence() > 1}
	}
	if b.GetSequence() <= known.sequence {
		return Verdict{Duplicate: true}
	}
	missing := b.GetSequence() - known.sequence - 1
	v := Verdict{Missing: missing, Resync: known.holed || missing > 0}
	known.holed = false
	return v
}

// Apply takes a batch in and returns what it added. A duplicate adds nothing.
// The batch must not be changed afterwards.
func (s *State) Apply(b *telemetryv1.Batch) []Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.GetSequence() == 0 || s.folded(b) {
		return nil
	}
	if b.GetSequence() == closed {
		return s.restoreFolded(b)
	}
	id := Stream{b.GetSender(), b.GetEpoch()}
	st := s.streams[id]
	if st == nil {
		st = newStream()
		s.streams[id] = st
		st.used = s.applied + 1 // the newest: it is not folded itself
		s.fold(b.GetSender())
	}
	if b.GetSequence() <= st.sequence {
		return nil
	}
	if st.sequence > 0 {
		s.missing += b.GetSequence() - st.sequence - 1
	}
	if b.GetSequence() > st.sequence+1 {
		st.holed = true
	}
	st.sequence = b.GetSequence()
	return s.take(st, b)
}

// take adds the content of a batch to a stream.
func (s *State) take(st *stream, b *telemetryv1.Batch) []Delta {
	s.applied++
	st.used, st.node = s.applied, b.GetNode()
	for _, c := range b.GetPolicyCounters() {
		k := policyKey{c.GetPolicy(), c.GetRule(), c.GetDecision(), c.GetOrigin()}
		st.policy[k] = max(st.policy[k], c.GetCount())
	}
	for _, d := range b.GetDropped() {
		st.dropped[d.GetReason()] = max(st.dropped[d.GetReason()], d.GetRecords())
	}
	var deltas []Delta
	for _, a := range b.GetAggregates() {
		if int(a.GetEdge()) >= len(b.GetEdges()) || len(a.GetDurationIndex()) != len(a.GetDurationCount()) {
			continue // ingest refuses such rows; a log written by something else may hold one
		}
		if d, ok := st.apply(b.GetEdges()[a.GetEdge()], a); ok {
			deltas = append(deltas, d)
		}
	}
	return deltas
}

// apply replaces a row and returns the difference. A row that shrank cannot be
// of this epoch and is left out.
func (st *stream) apply(edge *telemetryv1.Edge, a *telemetryv1.Aggregate) (Delta, bool) {
	key := rowKey(edge, a)
	known := st.rows[key]
	if known == nil {
		known = &row{edge: edge, last: &telemetryv1.Aggregate{}}
		st.rows[key] = known
	}
	old := known.last
	if a.GetRequests() <= old.GetRequests() {
		return Delta{}, false
	}
	d := &telemetryv1.Aggregate{
		Protocol: a.GetProtocol(), ResponseCode: a.GetResponseCode(), GrpcStatus: a.GetGrpcStatus(),
		ResponseFlags: a.GetResponseFlags(), Verdict: a.GetVerdict(),
		Requests:         a.GetRequests() - old.GetRequests(),
		DurationSumNanos: since(a.GetDurationSumNanos(), old.GetDurationSumNanos()),
		RequestBytesSum:  since(a.GetRequestBytesSum(), old.GetRequestBytesSum()),
		ResponseBytesSum: since(a.GetResponseBytesSum(), old.GetResponseBytesSum()),
		Exemplars:        a.GetExemplars(),
	}
	before := make(map[uint32]uint64, len(old.GetDurationIndex()))
	for i, index := range old.GetDurationIndex() {
		before[index] = old.GetDurationCount()[i]
	}
	for i, index := range a.GetDurationIndex() {
		if n := since(a.GetDurationCount()[i], before[index]); n > 0 {
			d.DurationIndex, d.DurationCount = append(d.DurationIndex, index), append(d.DurationCount, n)
		}
	}
	known.last = keepExemplars(a, old)
	return Delta{Edge: edge, Row: d}, true
}

// since is the growth of a cumulative count. One that shrank is a sender's fault
// and adds nothing, rather than 2^64.
func since(now, before uint64) uint64 { return now - min(now, before) }

// keepExemplars carries the last exemplar of each bucket on: a batch brings
// only the fresh ones.
func keepExemplars(a, old *telemetryv1.Aggregate) *telemetryv1.Aggregate {
	if len(old.GetExemplars()) == 0 {
		return a
	}
	have := make(map[uint32]bool)
	for _, e := range a.GetExemplars() {
		have[e.GetBucket()] = true
	}
	merged := proto.CloneOf(a)
	for _, e := range old.GetExemplars() {
		if !have[e.GetBucket()] {
			merged.Exemplars = append(merged.Exemplars, e)
		}
	}
	return merged
}

// rowKey is unique per edge and series; 0xff is in no UTF-8 text.
func rowKey(e *telemetryv1.Edge, a *telemetryv1.Aggregate) string {
	b := make([]byte, 0, 256)
	b = append(b, byte(e.GetReporter()))
	for _, i := range []*telemetryv1.Identity{e.GetSource(), e.GetDestination()} {
		for _, s := range []string{i.GetCluster(), i.GetNamespace(), i.GetWorkload(), i.GetService(), i.GetVersion(), i.GetPrincipal(), i.GetInstance()} {
			b = append(append(b, s...), 0xff)
		}
	}
	for _, s := range []string{e.GetDestinationService(), e.GetSecurity(), a.GetProtocol(), a.GetGrpcStatus(), a.GetResponseFlags(), a.GetVerdict()} {
		b = append(append(b, s...), 0xff)
	}
	return string(binary.BigEndian.AppendUint32(b, a.GetResponseCode()))
}

// Sequence is the newest batch of a process, 0 if none came.
func (s *State) Sequence(sender string, epoch uint64) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st := s.streams[Stream{sender, epoch}]; st != nil {
		return st.sequence
	}
	return 0
}

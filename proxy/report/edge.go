package report

import (
	"strings"
	"sync"
	"sync/atomic"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/proxy/detail"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

// edgeKey identifies an edge as this sidecar reports it.
type edgeKey struct {
	reporter            telemetryv1.Reporter
	source, destination identity.Peer
	service, security   string
}

func edgeOf(x *exchange.Exchange) edgeKey {
	k := edgeKey{
		reporter: telemetryv1.Reporter_REPORTER_SOURCE, source: valid(*x.Source), destination: valid(*x.Destination),
		service: validText(x.DestinationService), security: validText(x.Security),
	}
	if x.Direction == exchange.Inbound {
		k.reporter = telemetryv1.Reporter_REPORTER_DESTINATION
	}
	return k
}

// valid makes a peer's words fit for protobuf and Prometheus, which refuse text
// that is not UTF-8: one such header would stop all reports for good.
func valid(p identity.Peer) identity.Peer {
	return identity.Peer{
		Cluster: validText(p.Cluster), Namespace: validText(p.Namespace), Workload: validText(p.Workload), Service: validText(p.Service),
		Version: validText(p.Version), Principal: validText(p.Principal), Instance: validText(p.Instance),
	}
}

func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func (k edgeKey) proto() *telemetryv1.Edge {
	return &telemetryv1.Edge{
		Reporter: k.reporter, Source: k.source.Proto(), Destination: k.destination.Proto(),
		DestinationService: k.service, Security: k.security,
	}
}

// edge is one edge and the series on it. It is never forgotten: its counts are
// cumulative.
type edge struct {
	key  edgeKey
	rows atomic.Pointer[[]*series] // replaced whole
	// share of the details that triggers send.
	share detail.Share
	// slow is the latency above which a request is one, in nanoseconds; 0 while
	// there were too few to say.
	slow atomic.Int64
}

// row finds the series of an outcome. An edge has few: a scan is quicker than a
// hash of their texts.
func (e *edge) row(k rowKey) *series {
	rows := e.rows.Load()
	if rows == nil {
		return nil
	}
	for _, r := range *rows {
		if r.key == k {
			return r
		}
	}
	return nil
}

// add appends a series. The caller holds the store's lock.
func (e *edge) add(one *series) {
	var rows []*series
	if old := e.rows.Load(); old != nil {
		rows = append(rows, *old...)
	}
	rows = append(rows, one)
	e.rows.Store(&rows)
}

// ends is an edge as an exchange names it: by the peers' addresses, which are
// the same as long as the peers are.
type ends struct {
	direction           exchange.Direction
	source, destination *identity.Peer
	service, security   string
}

// maxRecent bounds the quick way to an edge. Beyond it the way is found anew.
const maxRecent = 4096

// known is an edge and the way to it.
type known struct {
	ends ends
	edge *edge
}

// edges finds edges by their ends.
type edges struct {
	// latest of each shard: a connection's next request is mostly on the same
	// edge, and a comparison costs less than a map's hash.
	latest [shards]atomic.Pointer[known]

	mu     sync.RWMutex // guards the fields below
	recent map[ends]*known
	byKey  map[edgeKey]*edge
}

func (s *edges) init() {
	s.recent, s.byKey = make(map[ends]*known), make(map[edgeKey]*edge)
}

func (s *edges) of(x *exchange.Exchange) *edge {
	k := ends{x.Direction, x.Source, x.Destination, x.DestinationService, x.Security}
	latest := &s.latest[x.Shard%shards]
	if l := latest.Load(); l != nil && l.ends == k {
		return l.edge
	}
	s.mu.RLock()
	found := s.recent[k]
	s.mu.RUnlock()
	if found == nil {
		found = s.remember(k, s.canonical(edgeOf(x)))
	}
	latest.Store(found)
	return found.edge
}

// remember notes the way to an edge.
func (s *edges) remember(k ends, e *edge) *known {
	k.service, k.security = strings.Clone(k.service), strings.Clone(k.security)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	found := &known{k, e}
	s.recent[k] = found
	return found
}

// canonical is the edge of a key. One that carries no series yet is not kept
// beyond maxSeries: its requests will be counted elsewhere.
func (s *edges) canonical(k edgeKey) *edge {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[k]
	if e == nil {
		e = &edge{key: k}
		if len(s.byKey) < 2*maxSeries {
			s.byKey[k] = e
		}
	}
	return e
}

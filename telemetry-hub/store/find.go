package store

import (
	"context"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
)

// Found is one record with its edge.
type Found struct {
	Record record.Record
	Edge   *telemetryv1.Edge
}

const (
	// maxFound bounds one look-up: clients choose request IDs and may give one
	// to everything.
	maxFound = 10_000
	// maxTraces bounds how many traces one foreign request ID pulls in.
	maxTraces = 100
)

// Find returns the records of the trace or request ID, in no order, at most
// about ten thousand of them, those of the newest files. An ID that can be both
// is looked up as both. What is damaged is counted and passed over. An error is
// ctx's, or ErrIncomplete, which comes with what was found.
func (s *Store) Find(ctx context.Context, id string) ([]Found, error) {
	if id == "" {
		return nil, nil
	}
	v := s.view()
	defer v.done()
	l := lookup{s: s, id: id, traces: make(map[ids.TraceID]bool), in: make(map[*sealedFile]map[ids.TraceID]bool)}
	l.trace, l.isTrace = ids.ParseTraceID(id)
	for i := len(v.logs) - 1; i >= 0; i-- {
		l.byID(ctx, v.logs[i])
	}
	for _, list := range [][]*sealedFile{v.segments, v.remote} {
		l.bySegments(ctx, list)
	}
	// A foreign request ID may be on the first hop only; its trace has the rest.
	for i := len(v.logs) - 1; i >= 0; i-- {
		l.restOfLog(ctx, v.logs[i])
	}
	for _, list := range [][]*sealedFile{v.segments, v.remote} {
		l.restOfSegments(ctx, list)
	}
	if len(v.remote) > 0 {
		l.found = once(l.found)
	}
	if ctx.Err() != nil {
		return l.found, ctx.Err()
	}
	return l.found, l.failed
}

// lookup is one call of Find.
type lookup struct {
	s       *Store
	id      string
	trace   ids.TraceID
	isTrace bool
	found   []Found
	traces  map[ids.TraceID]bool                 // of what was found by the ID
	in      map[*sealedFile]map[ids.TraceID]bool // of these, what a segment gave whole
	failed  error                                // the first ErrIncomplete
}

// room is how many records may still be found.
func (l *lookup) room() int { return maxFound - len(l.found) }

// learn notes the trace of a record that was found by the ID.
func (l *lookup) learn(trace ids.TraceID) bool {
	if trace.IsZero() || l.isTrace && trace == l.trace || len(l.traces) >= maxTraces && !l.traces[trace] {
		return false
	}
	l.traces[trace] = true
	return true
}

func (l *lookup) byID(ctx context.Context, log logView) {
	hashes := []uint64{l.s.hash.request(l.id)}
	if l.isTrace {
		hashes = append(hashes, l.s.hash.trace(l.trace))
	}
	match := func(c *record.Columns, row int) bool {
		return l.isTrace && c.TraceID(row) == l.trace || c.RequestID(row) == l.id
	}
	before := len(l.found)
	l.collect(ctx, log, hashes, match)
	for _, f := range l.found[before:] {
		l.learn(f.Record.TraceID)
	}
}

func (l *lookup) restOfLog(ctx context.Context, log logView) {
	for trace := range l.traces {
		match := func(c *record.Columns, row int) bool { return c.TraceID(row) == trace && c.RequestID(row) != l.id }
		l.collect(ctx, log, []uint64{l.s.hash.trace(trace)}, match)
	}
}

// tell counts what a look-up met of damage.
func (s *Store) tell(ctx context.Context, sf *sealedFile, err error) {
	if err != nil && ctx.Err() == nil {
		s.corrupt("segment is damaged, some records are not found", "file", sf.path, "error", err)
	}
}

// collect reads the matching records of every frame of a log that may hold one of
// the hashes, the newest first.
func (l *lookup) collect(ctx context.Context, log logView, hashes []uint64, match func(*record.Columns, int) bool) {
	seen := make(map[int64]bool)
	for _, offset := range l.s.places(log, hashes) {
		if l.room() <= 0 || ctx.Err() != nil {
			return
		}
		if !seen[offset] {
			seen[offset] = true
			_, found := l.s.read(log.logFile, offset, match, l.room())
			l.found = append(l.found, found...)
		}
	}
}

// places looks the hashes up; the frames are read without the lock, so that a
// look-up in a large store does not hold the writer up.
func (s *Store) places(log logView, hashes []uint64) (list []int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, h := range hashes {
		list = append(list, log.index.find(h)...)
	}
	return list
}

// read returns the time of one frame's batch, in Unix nanoseconds, and its
// matching records, the last first, at most limit if it is above zero.
func (s *Store) read(lf *logFile, offset int64, match func(*record.Columns, int) bool, limit int) (at int64, found []Found) {
	payload, err := readFrame(lf.f, offset, MaxFrame)
	if err != nil {
		s.corrupt("log is damaged, one batch cannot be read", "file", lf.f.Name(), "offset", offset, "error", err)
		return 0, nil
	}
	b := &telemetryv1.Batch{}
	columns, err := decode(s.decoder, payload, b)
	if err != nil {
		s.corrupt("log holds a frame that is not a batch", "file", lf.f.Name(), "offset", offset, "error", err)
		return 0, nil
	}
	for row := columns.Rows() - 1; row >= 0; row-- {
		if int(columns.Edge(row)) >= len(b.GetEdges()) || !match(columns, row) {
			continue
		}
		found = append(found, Found{Record: columns.Record(row), Edge: b.GetEdges()[columns.Edge(row)]})
		if limit > 0 && len(found) == limit {
			break
		}
	}
	return b.GetTimeUnixNano(), found
}

package store

import (
	"slices"
	"time"

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
// about ten thousand of them, the newest. An ID that can be both is looked up
// as both. Damaged frames are counted and passed over.
func (s *Store) Find(id string) []Found {
	if id == "" {
		return nil
	}
	var hashes []uint64
	trace, isTrace := ids.ParseTraceID(id)
	if isTrace {
		hashes = append(hashes, s.hash.trace(trace))
	}
	hashes = append(hashes, s.hash.request(id))
	match := func(c *record.Columns, row int) bool {
		return isTrace && c.TraceID(row) == trace || c.RequestID(row) == id
	}
	found := s.collect(hashes, match, maxFound)
	// A foreign request ID may be on the first hop only; its trace has the rest.
	traces := make(map[ids.TraceID]bool)
	for _, f := range found {
		other := ids.TraceID(f.Record.TraceID)
		if !other.IsZero() && !(isTrace && other == trace) && len(traces) < maxTraces {
			traces[other] = true
		}
	}
	for other := range traces {
		same := func(c *record.Columns, row int) bool {
			return c.TraceID(row) == other && c.RequestID(row) != id
		}
		found = append(found, s.collect([]uint64{s.hash.trace(other)}, same, maxFound-len(found))...)
	}
	return found
}

// place is where a frame stands.
type place struct {
	lf     *logFile
	offset int64
}

// collect reads the matching records of every frame that may hold one of the
// hashes, the newest file first.
func (s *Store) collect(hashes []uint64, match func(*record.Columns, int) bool, limit int) []Found {
	var found []Found
	for _, p := range s.places(hashes) {
		if len(found) >= limit {
			break
		}
		found = append(found, s.read(p.lf, p.offset, match, limit-len(found))...)
	}
	return found
}

// places looks the hashes up; the frames are read without the lock, so that a
// look-up in a large store does not hold the writer up.
func (s *Store) places(hashes []uint64) []place {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []place
	for i := len(s.files) - 1; i >= 0; i-- {
		lf := s.files[i]
		seen := make(map[int64]bool)
		for _, h := range hashes {
			for _, offset := range lf.index.find(h) {
				if !seen[offset] {
					seen[offset] = true
					list = append(list, place{lf, offset})
				}
			}
		}
	}
	return list
}

// read returns the matching records of one frame, at most limit if it is above
// zero; none if the file has been dropped in the meantime.
func (s *Store) read(lf *logFile, offset int64, match func(*record.Columns, int) bool, limit int) []Found {
	lf.reading.RLock()
	defer lf.reading.RUnlock()
	if lf.closed {
		return nil
	}
	payload, err := readFrame(lf.f, offset, MaxFrame)
	if err != nil {
		s.corrupt("log is damaged, one batch cannot be read", "file", lf.f.Name(), "offset", offset, "error", err)
		return nil
	}
	b := &telemetryv1.Batch{}
	columns, err := s.decode(payload, b)
	if err != nil {
		s.corrupt("log holds a frame that is not a batch", "file", lf.f.Name(), "offset", offset, "error", err)
		return nil
	}
	var found []Found
	for row := columns.Rows() - 1; row >= 0; row-- {
		if int(columns.Edge(row)) >= len(b.GetEdges()) || !match(columns, row) {
			continue
		}
		found = append(found, Found{Record: columns.Record(row), Edge: b.GetEdges()[columns.Edge(row)]})
		if limit > 0 && len(found) == limit {
			break
		}
	}
	return found
}

// maxSearch bounds the time of one search: a rare match in a large store ends
// with what was found, marked as incomplete.
const maxSearch = 2 * time.Second

// Search walks the store from the newest batch backwards and returns up to
// limit matching records, newest batch first. It reports false when it stopped
// for time or because limit was reached.
func (s *Store) Search(limit int, match func(*record.Record, *telemetryv1.Edge) bool) ([]Found, bool) {
	deadline := time.Now().Add(maxSearch)
	any := func(*record.Columns, int) bool { return true }
	var found []Found
	files, frames := s.view()
	for i := len(files) - 1; i >= 0; i-- {
		for _, offset := range slices.Backward(frames[i]) {
			for _, f := range s.read(files[i], offset, any, 0) {
				if !match(&f.Record, f.Edge) {
					continue
				}
				if len(found) == limit {
					return found, false
				}
				found = append(found, f)
			}
			if time.Now().After(deadline) {
				return found, false
			}
		}
	}
	return found, true
}

// view is the store as it stands. Frames are only ever added, behind what the
// view sees.
func (s *Store) view() ([]*logFile, [][]int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	frames := make([][]int64, len(s.files))
	for i, lf := range s.files {
		frames[i] = lf.frames
	}
	return slices.Clone(s.files), frames
}

package segment

import (
	"context"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Span is the start of the first and of the last record, in Unix nanoseconds; 0
// and 0 if there are no records.
func (s *Segment) Span() (first, last int64) {
	known := false
	for i := range s.header.groups {
		g, err := s.group(i)
		if err != nil {
			continue // Damaged has it
		}
		if !known || g.stats.minStart < first {
			first = g.stats.minStart
		}
		if !known || g.stats.maxStart > last {
			last = g.stats.maxStart
		}
		known = true
	}
	return first, last
}

// RecordsAt builds the records of the rows, which rise, with all their columns.
// What the scan had not read is read now.
func (r *Rows) RecordsAt(ctx context.Context, rows []int32) ([]Found, error) {
	if err := r.data.read(ctx, allColumns()); err != nil {
		return nil, err
	}
	return r.data.records(rows)
}

// Name of the segment, as it was opened.
func (s *Segment) Name() string { return s.name }

// FromSource reports that the source of the edge told of these requests, and not
// the destination.
func (a *Aggregate) FromSource() bool {
	return a.Edge.GetReporter() == telemetryv1.Reporter_REPORTER_SOURCE
}

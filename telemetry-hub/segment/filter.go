package segment

import (
	"errors"
	"slices"
	"strings"
)

// conditions are the columns that the filter looks at.
func (s *scan) conditions(d *groupData) (list []Column) {
	fails := s.Failed || s.FailedOrSlow > 0
	for _, c := range [...]struct {
		column Column
		needed bool
	}{
		{Start, s.bounded(d)}, {Duration, s.MinDuration > 0 || s.FailedOrSlow > 0}, {Code, s.MinCode > 0 || fails}, {GRPCStatus, fails},
		{SourceService, s.Source != ""}, {DestinationService, s.Destination != ""}, {Protocol, s.Protocol != ""}, {Path, s.PathPrefix != ""},
	} {
		if c.needed {
			list = append(list, c.column)
		}
	}
	return list
}

// bounded reports that some rows of the group may lie outside of the time.
func (s *scan) bounded(d *groupData) bool {
	return d.stats.minStart < s.from || d.stats.maxStart >= s.to
}

// filter narrows the selection, by what leaves least first: of the later columns
// only the values of the rows that are left are looked at.
func (s *scan) filter(r *Rows) error {
	if s.MinCode > 0 {
		if err := r.keepNumbers(Code, func(v int64) bool { return v >= int64(s.MinCode) }); err != nil {
			return err
		}
	}
	if s.Failed {
		if err := r.keepFailed(0); err != nil {
			return err
		}
	}
	if s.FailedOrSlow > 0 {
		if err := r.keepFailed(int64(s.FailedOrSlow)); err != nil {
			return err
		}
	}
	if err := s.filterTexts(r); err != nil {
		return err
	}
	if s.MinDuration > 0 {
		if err := r.keepInts(Duration, func(v int64) bool { return v >= int64(s.MinDuration) }); err != nil {
			return err
		}
	}
	if s.bounded(r.data) {
		return r.keepInts(Start, func(v int64) bool { return v >= s.from && v < s.to })
	}
	return nil
}

func (s *scan) filterTexts(r *Rows) error {
	equal := func(want string) func(string) bool { return func(have string) bool { return have == want } }
	for _, t := range [...]struct {
		column Column
		text   string
		match  func(string) bool
	}{
		{DestinationService, s.Destination, equal(s.Destination)},
		{SourceService, s.Source, equal(s.Source)},
		{Protocol, s.Protocol, equal(s.Protocol)},
		{Path, s.PathPrefix, func(have string) bool { return strings.HasPrefix(have, s.PathPrefix) }},
	} {
		if t.text != "" {
			if err := r.keepTexts(t.column, t.match); err != nil {
				return err
			}
		}
	}
	return nil
}

// reset begins with all rows of a group.
func (r *Rows) reset(d *groupData) {
	r.data = d
	for c := range r.columns { // lists keep their memory
		l := &r.columns[c]
		*l = loaded{at: l.at[:0]}
	}
	for row := len(r.every); row < d.rows; row++ {
		r.every = append(r.every, int32(row))
	}
	r.selected, r.all = r.every[:d.rows], true
}

// take makes rows the selection; they are of narrowed.
func (r *Rows) take(rows []int32) { r.selected, r.narrowed, r.all = rows, rows, false }

// none ends with an empty selection.
func (r *Rows) none() { r.take(r.narrowed[:0]) }

// keep keeps the selected rows for which match says so.
func (r *Rows) keep(match func(row int32) bool) {
	kept := r.narrowed[:0] // what is written has been read before
	for _, row := range r.selected {
		if match(row) {
			kept = append(kept, row)
		}
	}
	r.take(kept)
}

func (r *Rows) keepInts(c Column, match func(int64) bool) error {
	if len(r.selected) == 0 {
		return nil
	}
	if err := r.load(c); err != nil {
		return err
	}
	v := r.Ints(c)
	if v == nil { // the file lacks the column: all are zero
		if !match(0) {
			r.none()
		}
		return nil
	}
	r.keep(func(row int32) bool { return match(v[row]) })
	return nil
}

// keepNumbers is keepInts for a column of few different numbers: only they are
// looked at, and then where they stand.
func (r *Rows) keepNumbers(c Column, match func(int64) bool) error {
	if err := r.open(c); err != nil {
		return err
	}
	l := &r.columns[c]
	if l.kind != kindInt {
		return r.keepInts(c, match)
	}
	hit := r.data.mem.hits(l.entries)
	for code := range hit {
		hit[code] = match(l.small(uint32(code)))
	}
	return r.keepHit(c, hit)
}

// keepFailed keeps what failed or, if slow is not 0, took that many nanoseconds.
func (r *Rows) keepFailed(slow int64) error {
	if len(r.selected) == 0 {
		return nil
	}
	if err := r.open(GRPCStatus); err != nil {
		return err
	}
	if slow == 0 && !r.anyStatus() {
		return r.keepNumbers(Code, func(v int64) bool { return failed(v, 0) })
	}
	err := errors.Join(r.load(Code), r.load(GRPCStatus))
	if slow > 0 {
		err = errors.Join(err, r.load(Duration))
	}
	if err != nil {
		return err
	}
	code, grpc, duration := r.Ints(Code), r.Ints(GRPCStatus), r.Ints(Duration)
	at := func(v []int64, row int32) int64 {
		if v == nil {
			return 0
		}
		return v[row]
	}
	r.keep(func(row int32) bool {
		return failed(at(code, row), at(grpc, row)) || slow > 0 && at(duration, row) >= slow
	})
	return nil
}

// anyStatus reports that some request of the group has a gRPC status other than
// OK; the column is open.
func (r *Rows) anyStatus() bool {
	l := &r.columns[GRPCStatus]
	for code := range l.entries {
		if l.small(uint32(code)) != 0 {
			return true
		}
	}
	return false
}

// keepTexts looks at the dictionary first: mostly it has none, and the codes
// need not be read, or all.
func (r *Rows) keepTexts(c Column, match func(string) bool) error {
	if len(r.selected) == 0 {
		return nil
	}
	if err := r.open(c); err != nil {
		return err
	}
	l := &r.columns[c]
	hit := r.data.mem.hits(len(l.dict)) // of none if the file lacks the column
	for i, s := range l.dict {
		hit[i] = match(s)
	}
	return r.keepHit(c, hit)
}

// keepHit keeps the selected rows whose code is hit; the column is open, or the
// file lacks it and nothing is.
func (r *Rows) keepHit(c Column, hit []bool) error {
	switch {
	case len(r.selected) == 0, !slices.Contains(hit, true):
		r.none()
		return nil
	case !slices.Contains(hit, false):
		return nil
	}
	l := &r.columns[c]
	if r.all {
		rows, ok := l.selectRows(r.narrowed[:0], hit)
		if !ok {
			return r.data.corrupt(c)
		}
		r.take(rows)
		return nil
	}
	codes, ok := l.pick(r.data.mem.codes, r.selected)
	if !ok {
		return r.data.corrupt(c)
	}
	r.data.mem.codes = codes
	kept := r.narrowed[:0]
	for i, row := range r.selected {
		if hit[codes[i]] {
			kept = append(kept, row)
		}
	}
	r.take(kept)
	return nil
}

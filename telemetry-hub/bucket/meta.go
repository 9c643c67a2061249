package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Object is a file in the bucket.
type Object struct {
	Name   string `json:"name"` // in the bucket, without the configured prefix
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Meta describes a whole segment. It is a JSON object in the bucket; readers
// pass over fields that they do not know.
type Meta struct {
	Version int    `json:"version"` // 1
	Log     Log    `json:"log"`     // of which it has the records
	Writer  string `json:"writer"`  // the hub that uploaded it
	Rows    int    `json:"rows"`
	// Schema is the version of the table.
	Schema uint64 `json:"schema"`
	// MinStart and MaxStart of the records and End, in Unix nanoseconds. End is
	// MaxStart, but not after the file was written: a request from a clock that
	// is ahead does not take its segment along. Not before 1970.
	MinStart int64     `json:"min_start"`
	MaxStart int64     `json:"max_start"`
	End      int64     `json:"end"`
	Records  Object    `json:"records"`
	Index    Object    `json:"index"`
	Uploaded time.Time `json:"uploaded"`
}

// Name of the segment, unique in its bucket.
func (m *Meta) Name() string { return m.name().String() }

func (m *Meta) name() segmentName { return segmentName{m.End, m.Log} }

const (
	metaVersion = 1
	maxSmall    = 1 << 20 // of a meta or a lease
	maxIndex    = 1 << 30
)

// readMeta reads and checks a meta. Its errors are ErrNotFound, ErrDamaged and
// those of the bucket.
func (b *Bucket) readMeta(ctx context.Context, n segmentName) (Meta, error) {
	var m Meta
	body, err := b.get(ctx, n.meta(), maxSmall)
	if err != nil {
		return m, err
	}
	err = json.Unmarshal(body, &m)
	switch {
	case err == nil && m.Version > metaVersion:
		return m, fmt.Errorf("%s in %s is of version %d, this program reads %d: use a newer one", n.meta(), b.where, m.Version, metaVersion)
	case err == nil && m.Version == metaVersion && m.name() == n && m.ownParts() && m.Rows > 0 &&
		m.Records.Bytes > 0 && m.Index.Bytes > 0 && m.Index.Bytes <= maxIndex && m.MinStart <= m.MaxStart:
		return m, nil
	}
	return m, fmt.Errorf("%w: %s in %s does not describe a segment: restore it, or upload the segment again", ErrDamaged, n.meta(), b.where)
}

// ownParts reports that a meta names no objects but those of its own segment.
func (m *Meta) ownParts() bool {
	records, ok := parsePart(m.Records.Name)
	index, ok2 := parsePart(m.Index.Name)
	return ok && ok2 && records == m.name() && index == m.name() &&
		strings.HasPrefix(m.Records.Name, recordsRoot+"/") && strings.HasPrefix(m.Index.Name, indexRoot+"/")
}

// days lists the folders of a root, oldest first.
func (b *Bucket) days(ctx context.Context, root string) ([]string, error) {
	entries, err := b.list(ctx, root, false)
	if err != nil {
		return nil, err
	}
	var days []string
	for _, e := range entries {
		day := strings.TrimSuffix(strings.TrimPrefix(e.name, root+"/"), "/")
		if strings.HasPrefix(day, dayPrefix) {
			days = append(days, day)
		}
	}
	return days, nil
}

// names lists the whole segments of a day, oldest first.
func (b *Bucket) names(ctx context.Context, day string) ([]segmentName, error) {
	entries, err := b.list(ctx, metaRoot+"/"+day, false)
	if err != nil {
		return nil, err
	}
	var names []segmentName
	for _, e := range entries {
		if n, ok := parseMeta(e.name); ok {
			names = append(names, n)
		}
	}
	return names, nil
}

// Logs lists the logs that a hub's whole segments have, without reading any of
// them.
func (b *Bucket) Logs(ctx context.Context, hub string) ([]Log, error) {
	days, err := b.days(ctx, metaRoot)
	if err != nil {
		return nil, err
	}
	var logs []Log
	for _, day := range days {
		names, err := b.names(ctx, day)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if n.Hub == hub {
				logs = append(logs, n.Log)
			}
		}
	}
	return logs, nil
}

// Tolerances of List: how far a segment may reach beyond the day of its end.
const (
	listAhead  = time.Hour
	listBehind = 24 * time.Hour
)

// List returns the whole segments that have records in from <= start < to, by
// End; a zero time is no bound. It costs one listing for each day and one read
// for each segment that may match. A record more than an hour younger than the
// End of its segment, or a day older than its newest, leads to no segment, as
// only clocks that are wrong have. The error is joined of what could not be
// read, and what is returned is good.
func (b *Bucket) List(ctx context.Context, from, to time.Time) ([]Meta, error) {
	days, err := b.days(ctx, metaRoot)
	if err != nil {
		return nil, err
	}
	var names []segmentName
	for _, day := range days {
		if !from.IsZero() && day < dayOf(from.Add(-listAhead)) || !to.IsZero() && day > dayOf(to.Add(listBehind)) {
			continue
		}
		more, err := b.names(ctx, day)
		if err != nil {
			return nil, err
		}
		for _, n := range more {
			if from.IsZero() || n.end >= from.Add(-listAhead).UnixNano() {
				names = append(names, n)
			}
		}
	}
	metas, err := b.readMetas(ctx, names)
	return slices.DeleteFunc(metas, func(m Meta) bool {
		return !from.IsZero() && m.MaxStart < from.UnixNano() || !to.IsZero() && m.MinStart >= to.UnixNano()
	}), err
}

// readMetas reads some metas in their order. Those that have gone meanwhile are
// left out; what else is wrong is told, and the rest is good.
func (b *Bucket) readMetas(ctx context.Context, names []segmentName) ([]Meta, error) {
	metas := make([]Meta, len(names))
	errs := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(b.o.Reads)
	for i, n := range names {
		g.Go(func() error {
			metas[i], errs[i] = b.readMeta(ctx, n)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	var good []Meta
	for i, err := range errs {
		switch {
		case err == nil:
			good = append(good, metas[i])
		case errors.Is(err, ErrNotFound):
			errs[i] = nil
		}
	}
	return good, errors.Join(errs...)
}

package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// LiveSegment is an open segment of the bucket.
type LiveSegment struct {
	Meta
	*segment.Segment
}

// Name of the segment.
func (s *LiveSegment) Name() string { return s.Meta.Name() }

// Live keeps the segments of a bucket open as hubs add them and retention
// removes them. It is safe for concurrent use.
type Live struct {
	b        *Bucket
	interval time.Duration
	open     atomic.Pointer[[]*LiveSegment]

	mu     sync.Mutex // held by a poll; guards the fields below
	days   map[string]map[segmentName]*LiveSegment
	turn   int // of the old days
	polled bool
}

// DefaultPoll is the interval of a Live that names none.
const DefaultPoll = 30 * time.Second

// NewLive returns an empty set that Run polls every interval.
func NewLive(b *Bucket, interval time.Duration) *Live {
	def(&interval, DefaultPoll)
	l := &Live{b: b, interval: interval, days: map[string]map[segmentName]*LiveSegment{}}
	l.open.Store(new([]*LiveSegment))
	return l
}

// Segments are those that are open, by End. The slice is shared and not to be
// changed. A segment that vanishes later stays usable for as long as its objects
// are there, which Retention leaves long enough.
func (l *Live) Segments() []*LiveSegment { return *l.open.Load() }

// Between are the open segments with records in from <= start < to, by End; a
// zero time is no bound.
func (l *Live) Between(from, to time.Time) (list []*LiveSegment) {
	for _, s := range l.Segments() {
		if (from.IsZero() || s.MaxStart >= from.UnixNano()) && (to.IsZero() || s.MinStart < to.UnixNano()) {
			list = append(list, s)
		}
	}
	return list
}

// Run polls until ctx ends. What fails is logged and tried again.
func (l *Live) Run(ctx context.Context) error {
	t := time.NewTicker(l.interval)
	defer t.Stop()
	for {
		if err := l.Poll(ctx); err != nil && ctx.Err() == nil {
			l.b.o.Logger.Warn("poll of the bucket", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Poll brings the set up to date. The first call looks at all days; later ones
// at those that change: today, yesterday, the oldest, days that are new, and one
// of the others in turn. It lists each of them once and reads the metas and
// indexes that are new. What cannot be read or opened is told and tried again by
// the next call; the rest is good.
func (l *Live) Poll(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	days, err := l.b.days(ctx, metaRoot)
	if err != nil {
		return err
	}
	for day, segments := range l.days {
		if !slices.Contains(days, day) {
			l.forget(slices.Collect(maps.Values(segments)))
			delete(l.days, day)
		}
	}
	var errs []error
	for _, day := range l.due(days) {
		errs = append(errs, l.pollDay(ctx, day))
		l.publish() // of a long first poll too
	}
	l.publish()
	l.polled = l.polled || errors.Join(errs...) == nil
	return errors.Join(errs...)
}

// due are the days to look at, newest first.
func (l *Live) due(days []string) (due []string) {
	now := l.b.o.Now()
	recent := dayOf(now.Add(-24 * time.Hour))
	l.turn++
	for i, day := range slices.Backward(days) {
		if !l.polled || i == 0 || day >= recent || l.days[day] == nil || i == l.turn%len(days) {
			due = append(due, day)
		}
	}
	return due
}

func (l *Live) pollDay(ctx context.Context, day string) error {
	names, err := l.b.names(ctx, day)
	if err != nil {
		return err
	}
	have := l.days[day]
	if have == nil {
		have = map[segmentName]*LiveSegment{}
	}
	var gone []*LiveSegment
	for n, s := range have {
		if !slices.Contains(names, n) {
			gone = append(gone, s)
			delete(have, n)
		}
	}
	l.forget(gone)
	added, err := l.openAll(ctx, slices.DeleteFunc(names, func(n segmentName) bool { return have[n] != nil }))
	for _, s := range added {
		have[s.name()] = s
	}
	if err == nil || l.days[day] != nil || len(have) > 0 {
		l.days[day] = have
	}
	return err
}

// openAll opens segments by name, some at a time.
func (l *Live) openAll(ctx context.Context, names []segmentName) ([]*LiveSegment, error) {
	metas, err := l.b.readMetas(ctx, names)
	opened := make([]*LiveSegment, len(metas))
	errs := make([]error, len(metas))
	var g errgroup.Group
	g.SetLimit(l.b.o.Reads)
	for i, m := range metas {
		g.Go(func() error {
			s, err := l.b.Open(ctx, m)
			if err != nil {
				errs[i] = err
				return nil
			}
			opened[i] = &LiveSegment{m, s}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	opened = slices.DeleteFunc(opened, func(s *LiveSegment) bool { return s == nil })
	if err = errors.Join(append(errs, err)...); err != nil {
		err = fmt.Errorf("%d of %d new segments could not be opened: %w", len(names)-len(opened), len(names), err)
	}
	return opened, err
}

// forget drops from the cache what is needed no more.
func (l *Live) forget(gone []*LiveSegment) {
	for _, s := range gone {
		l.b.cache.dropObject(s.Records.Name)
		l.b.cache.dropObject(s.Index.Name)
	}
}

func (l *Live) publish() {
	list := []*LiveSegment{}
	for _, segments := range l.days {
		list = slices.AppendSeq(list, maps.Values(segments))
	}
	slices.SortFunc(list, func(a, b *LiveSegment) int {
		return compareNames(a.name(), b.name())
	})
	l.open.Store(&list)
}

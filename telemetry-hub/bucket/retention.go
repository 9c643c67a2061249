package bucket

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RetentionOptions say what is kept. What is zero has the default that it names.
type RetentionOptions struct {
	// MaxAge of a segment, by its End; no bound if 0.
	MaxAge time.Duration
	// MaxBytes of all segments, records and indexes; the oldest go first. No
	// bound if 0.
	MaxBytes int64
	// Interval of the passes. 5 min.
	Interval time.Duration
	// Grace is how long what no meta names has been seen before it is deleted:
	// longer than a poll of Live and the longest look-up. 15 min.
	Grace time.Duration
	// HalfUpload is the age at which what no meta names counts as given up: longer
	// than any upload. 6 h.
	HalfUpload time.Duration
	// Lease is the term of the leader. DefaultLease.
	Lease time.Duration
}

func (o *RetentionOptions) setDefaults() {
	def(&o.Interval, 5*time.Minute)
	def(&o.Grace, 15*time.Minute)
	def(&o.HalfUpload, 6*time.Hour)
	def(&o.Lease, DefaultLease)
}

// Removed counts what a pass of Retention deleted.
type Removed struct {
	Segments int // hidden: their metas are gone
	Objects  int // records and indexes that no meta names
}

// Retention deletes segments that are too old or too many, and what is left of
// uploads that were given up. All hubs run it, and the one that holds the lease
// works. It is not safe for concurrent use.
//
// A segment goes in two steps: its meta, so that no hub finds it any more, and
// after Grace the rest. The second step is the same as that for half uploads,
// so it survives any crash. Every step may be done twice, or by two hubs at once.
type Retention struct {
	b       *Bucket
	o       RetentionOptions
	lease   *Lease
	metas   func() []Meta
	orphans map[string]time.Time // objects that no meta names, since when
}

// NewRetention returns a Retention. metas are those of the segments in the
// bucket, as a Live has them; it is asked only if MaxBytes is set.
func NewRetention(b *Bucket, o RetentionOptions, metas func() []Meta) (*Retention, error) {
	o.setDefaults()
	lease, err := b.Lease("retention", o.Lease)
	if err != nil {
		return nil, err
	}
	return &Retention{b: b, o: o, lease: lease, metas: metas, orphans: map[string]time.Time{}}, nil
}

// Leader reports whether this hub is the one that works.
func (r *Retention) Leader() bool { return r.lease.Held() }

// Run works until ctx ends, then gives the lease up. What fails is logged and
// tried again.
func (r *Retention) Run(ctx context.Context) error {
	t := time.NewTicker(r.o.Lease / RenewParts)
	defer t.Stop()
	var last time.Time
	for {
		ours, err := r.lease.Renew(ctx)
		if now := r.b.o.Now(); err == nil && ours && now.Sub(last) >= r.o.Interval {
			last = now
			_, err = r.Pass(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.b.o.Logger.Warn("retention in the bucket", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.b.o.AttemptTimeout)
			defer cancel()
			return r.lease.Release(end)
		}
	}
}

// Pass deletes once, whoever holds the lease.
func (r *Retention) Pass(ctx context.Context) (Removed, error) {
	var done Removed
	err := r.expire(ctx, &done)
	return done, errors.Join(err, r.sweep(ctx, &done))
}

// expire hides segments.
func (r *Retention) expire(ctx context.Context, done *Removed) error {
	names, err := r.expired(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if err := r.b.remove(ctx, n.meta()); err != nil {
			errs = append(errs, err)
			continue
		}
		done.Segments++
	}
	return errors.Join(errs...)
}

func (r *Retention) expired(ctx context.Context) (names []segmentName, err error) {
	if r.o.MaxAge > 0 {
		cutoff := r.b.o.Now().Add(-r.o.MaxAge)
		days, err := r.b.days(ctx, metaRoot)
		if err != nil {
			return nil, err
		}
		for _, day := range days {
			if day > dayOf(cutoff) {
				break
			}
			more, err := r.b.names(ctx, day)
			if err != nil {
				return nil, err
			}
			for _, n := range more {
				if n.end < cutoff.UnixNano() {
					names = append(names, n)
				}
			}
		}
	}
	return append(names, r.tooMany(names)...), nil
}

// tooMany are the oldest segments beyond MaxBytes, without those that go anyway.
func (r *Retention) tooMany(going []segmentName) (names []segmentName) {
	if r.o.MaxBytes <= 0 {
		return nil
	}
	metas := slices.Clone(r.metas())
	slices.SortFunc(metas, func(a, b Meta) int { return compareNames(b.name(), a.name()) })
	var bytes int64
	for i := range metas {
		bytes += metas[i].Records.Bytes + metas[i].Index.Bytes
		if bytes > r.o.MaxBytes && !slices.Contains(going, metas[i].name()) {
			names = append(names, metas[i].name())
		}
	}
	return names
}

// sweep deletes records and indexes that no meta names.
func (r *Retention) sweep(ctx context.Context, done *Removed) error {
	now := r.b.o.Now()
	// The parts first: what is uploaded meanwhile is not seen without its meta.
	parts, err := r.parts(ctx)
	if err != nil {
		return err
	}
	named, err := r.named(ctx, parts)
	if err != nil {
		return err
	}
	seen := map[string]time.Time{}
	var errs []error
	for _, p := range parts {
		if named[p.name] || now.Sub(p.modified) < r.o.HalfUpload {
			continue
		}
		since, ok := r.orphans[p.name]
		if !ok {
			since = now
		}
		seen[p.name] = since
		if now.Sub(since) < r.o.Grace {
			continue
		}
		if deleted, err := r.sweepOne(ctx, p, now); err != nil {
			errs = append(errs, err)
		} else if deleted {
			delete(seen, p.name)
			done.Objects++
		}
	}
	r.orphans = seen
	return errors.Join(errs...)
}

// sweepOne deletes a part unless an upload wants it after all: that would have
// written it again, or its meta.
func (r *Retention) sweepOne(ctx context.Context, p listed, now time.Time) (bool, error) {
	a, err := r.b.stat(ctx, p.name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || now.Sub(a.LastModified) < r.o.HalfUpload {
		return false, err
	}
	named, err := r.named(ctx, []listed{p})
	if err != nil || named[p.name] {
		return false, err
	}
	return true, r.b.remove(ctx, p.name)
}

func (r *Retention) parts(ctx context.Context) (parts []listed, err error) {
	for _, root := range []string{recordsRoot, indexRoot} {
		more, err := r.b.list(ctx, root, true)
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			if _, ok := parsePart(p.name); ok { // what is not ours stays
				parts = append(parts, p)
			}
		}
	}
	return parts, nil
}

// named are the parts that metas name. A meta is read only where more than one
// object of a kind claims its segment: where there is one it is the one.
func (r *Retention) named(ctx context.Context, parts []listed) (map[string]bool, error) {
	metas := map[segmentName]bool{}
	listedDays := map[string]bool{}
	named := map[string]bool{}
	for _, p := range parts {
		n, _ := parsePart(p.name)
		if listedDays[n.day()] {
			continue
		}
		listedDays[n.day()] = true
		names, err := r.b.names(ctx, n.day())
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			metas[n] = true
		}
	}
	claims := map[segmentName][]string{}
	for _, p := range parts {
		if n, _ := parsePart(p.name); metas[n] {
			claims[n] = append(claims[n], p.name)
		}
	}
	for n, objects := range claims {
		if len(parts) > 1 && len(objects) <= 2 {
			for _, o := range objects {
				named[o] = true
			}
			continue
		}
		m, err := r.b.readMeta(ctx, n)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil { // until somebody repairs it all of them stay
			for _, o := range objects {
				named[o] = true
			}
			r.b.o.Logger.Warn("sweep of the bucket", "error", err)
			continue
		}
		named[m.Records.Name], named[m.Index.Name] = true, true
	}
	return named, nil
}

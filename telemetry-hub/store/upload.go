package store

import (
	"context"
	"errors"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/bucket"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// freezeDue decides which segments are uploaded: those that are large or old
// enough, the small ones joined with their neighbours, as what is in the bucket is
// joined no more.
func (s *Store) freezeDue(ctx context.Context) {
	if s.remote == nil {
		return
	}
	for ctx.Err() == nil {
		run := s.dueRun()
		if run == nil {
			break
		}
		first := run[0]
		if len(run) > 1 && s.mergeRun(ctx, run) {
			continue
		}
		if len(run) == 1 {
			first.release()
		}
		if ctx.Err() == nil { // what cannot be joined goes alone
			s.mu.Lock()
			first.frozen = true
			s.mu.Unlock()
		}
	}
	wake(s.remote.work)
}

// dueRun is the oldest segment that is to be uploaded, with those that are joined
// to it; their user is the caller.
func (s *Store) dueRun() []*sealedFile {
	if !s.settled() {
		return nil
	}
	due := s.o.Now().Add(-s.remote.o.UploadAfter).UnixNano()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var run []*sealedFile
	rows := 0
	for _, sf := range s.segments {
		small := mergeable(sf)
		if n := len(run); n > 0 {
			if !small || n == mergeCount || rows+sf.Rows() > 2*mergeRows || s.unsealedBetween(run[n-1].last, sf.first) {
				break
			}
		} else if sf.frozen || sf.Rows() < mergeRows && sf.newest > due {
			continue
		}
		sf.users.enter()
		run, rows = append(run, sf), rows+sf.Rows()
		if !small {
			break
		}
	}
	return run
}

// upload puts frozen segments into the bucket, the oldest first.
func (r *Remote) upload(ctx context.Context, s *Store) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.learn(ctx); err != nil && ctx.Err() == nil {
			r.o.Logger.Warn("the bucket does not answer, nothing is uploaded yet", "error", err)
		} else if err == nil {
			r.uploadAll(ctx, s)
		}
		select {
		case <-tick.C:
		case <-r.work:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Remote) uploadAll(ctx context.Context, s *Store) {
	uploaded := false
	for ctx.Err() == nil {
		sf := s.toUpload()
		if sf == nil {
			break
		}
		ok := r.uploadOne(ctx, s, sf)
		sf.release()
		if !ok {
			break
		}
		uploaded = true
	}
	if !uploaded {
		return
	}
	wake(r.poll) // for it to be found there
	if err := r.dropChunks(ctx, s); err != nil && ctx.Err() == nil {
		r.o.Logger.Warn("log whose segments are in the bucket remains there", "error", err)
	}
}

// toUpload is the oldest segment that waits for its upload; its user is the
// caller.
func (s *Store) toUpload() *sealedFile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sf := range s.segments {
		if sf.frozen && !sf.uploaded && !sf.unfit {
			sf.users.enter()
			return sf
		}
	}
	return nil
}

// uploadOne reports whether there is reason to go on with the next.
func (r *Remote) uploadOne(ctx context.Context, s *Store, sf *sealedFile) bool {
	began := time.Now()
	meta, err := r.b.Upload(ctx, sf.path, bucket.Log{Hub: r.hub.Name, First: sf.first, Last: sf.last})
	if ctx.Err() != nil {
		return false
	}
	unfit := errors.Is(err, segment.ErrCorrupt)
	if err != nil {
		r.uploadFailures.Add(1)
		r.o.Logger.Error("segment is not uploaded", "file", sf.path, "again", !unfit, "error", err)
		if !unfit {
			return false
		}
	} else {
		r.uploads.Add(1)
		r.o.Logger.Info("uploaded a segment", "segment", meta.Name(), "records", meta.Rows, "bytes", meta.Records.Bytes+meta.Index.Bytes, "took", time.Since(began))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sf.uploaded, sf.unfit = !unfit, unfit
	return true
}

// archived is the greatest number up to which all logs are in the bucket as
// segments.
func (s *Store) archived() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.logs) == 0 {
		return 0
	}
	next := s.logs[len(s.logs)-1].number
	for _, lf := range s.logs {
		if !lf.sealed {
			next = min(next, lf.number)
		}
	}
	for _, sf := range s.segments {
		if !sf.uploaded {
			next = min(next, sf.first)
		}
	}
	return next - 1
}

// expendable reports that the store may drop a segment, or a part of it: it is
// found in the bucket, if there is one. The caller holds mu.
func (s *Store) expendable(sf *sealedFile) bool { return s.remote == nil || sf.remote || sf.unfit }

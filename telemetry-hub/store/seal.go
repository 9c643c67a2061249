package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// tidyEvery is how often Run looks at the retention, and tries again what failed.
const tidyEvery = 10 * time.Second

// Run seals log files as they are closed, merges small segments, and drops what
// retention does not keep, until ctx ends. What it has not sealed by then is
// sealed after the next start.
//
// With a bucket it uploads segments, follows what other hubs upload, and seals
// the logs of hubs that are lost. Its error is that this hub is such a one for
// the others.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.runLocal(ctx) })
	if s.remote != nil {
		s.remote.run(ctx, g, s)
	}
	return g.Wait()
}

func (s *Store) runLocal(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	s.running.Store(true)
	defer s.running.Store(false)
	for {
		s.sealAll(ctx)
		s.mergeSmall(ctx)
		s.freezeDue(ctx)
		s.keepSome(ctx)
		s.tidy()
		select {
		case <-s.work:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sealAll seals every closed log, the oldest first. A failure is told and tried
// again later; the log has the records until then.
func (s *Store) sealAll(ctx context.Context) {
	for ctx.Err() == nil {
		lf := s.nextClosed()
		if lf == nil {
			return
		}
		began := time.Now()
		sf, err := s.seal(ctx, lf)
		if err != nil {
			lf.release()
			if ctx.Err() == nil {
				s.sealFailures.Add(1)
				s.o.Logger.Error("log is not sealed, it is kept and tried again", "file", lf.f.Name(), "error", err)
			}
			return
		}
		s.replace(lf, sf)
		lf.release()
		s.tidy() // while there is much to seal, the logs that are done make room
		if sf != nil {
			s.sealed.Add(1)
			s.o.Logger.Info("sealed a segment", "file", sf.path, "records", sf.Rows(), "bytes", sf.Bytes, "took", time.Since(began))
		}
	}
}

// nextClosed is the oldest log that is closed and not sealed; its user is the
// caller.
func (s *Store) nextClosed() *logFile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, lf := range s.logs {
		if !lf.sealed && i < len(s.logs)-1 {
			lf.users.enter()
			return lf
		}
	}
	return nil
}

// seal makes a segment of a log; nil if the log has no records.
func (s *Store) seal(ctx context.Context, lf *logFile) (*sealedFile, error) {
	if lf.records == 0 {
		return nil, nil
	}
	path := s.segmentPath(lf.number, lf.number)
	if ok, err := s.sealTo(ctx, path, lf); !ok || err != nil {
		return nil, err
	}
	return s.openSegment(path, lf.number, lf.number)
}

// sealTo writes the segment of a log; false if the log has no records that can be
// read.
func (s *Store) sealTo(ctx context.Context, path string, lf *logFile) (bool, error) {
	builder, err := segment.NewBuilder(path, segment.BuilderOptions{Writer: s.writer})
	if err != nil {
		return false, err
	}
	if err := s.addAll(ctx, builder, lf); err != nil {
		return false, errors.Join(err, builder.Abort())
	}
	if builder.Rows() == 0 {
		return false, builder.Abort()
	}
	if _, err := builder.Seal(); err != nil {
		return false, errors.Join(err, builder.Abort())
	}
	return true, nil
}

// addAll gives a log's records to the builder. It has a decoder of its own, so
// that nobody waits for it.
func (s *Store) addAll(ctx context.Context, builder *segment.Builder, lf *logFile) error {
	decoder, err := record.NewDecoder()
	if err != nil {
		return err
	}
	defer decoder.Close()
	var payload []byte
	var columns record.Columns
	for _, offset := range lf.frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if payload, err = appendPayload(payload[:0], lf.f, offset, MaxFrame); err != nil {
			s.corrupt("log is damaged, one batch is lost", "file", lf.f.Name(), "offset", offset, "error", err)
			continue
		}
		b, err := readRecords(payload)
		if err == nil {
			err = decoder.DecodeTo(&columns, b.records, b.count)
		}
		if err != nil {
			s.corrupt("log holds a frame that is not a batch", "file", lf.f.Name(), "offset", offset, "error", err)
			continue
		}
		if err := builder.Add(&columns, b.edges, b.sender); err != nil {
			return fmt.Errorf("seal batch at %d: %w", offset, err)
		}
	}
	return nil
}

// replace has look-ups find the log's records in its segment from now on.
func (s *Store) replace(lf *logFile, sf *sealedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lf.sealed, lf.index, lf.frames = true, nil, nil
	if sf == nil {
		return
	}
	if s.remote != nil { // the segment that it had may be there, and be damaged here
		own, _ := s.remote.known()
		sf.uploaded = has(own, sf.first, sf.last)
		sf.frozen = sf.uploaded
	}
	at, _ := slices.BinarySearchFunc(s.segments, sf.first, func(a *sealedFile, first uint64) int { return int(a.first) - int(first) })
	s.segments = slices.Insert(slices.Clone(s.segments), at, sf)
}

// tidy drops what is not kept any longer.
func (s *Store) tidy() {
	for _, lf := range s.oldLogs() {
		err := errors.Join(os.Remove(s.path(lf.number, "log")), os.Remove(s.path(lf.number, "checkpoint")))
		lf.release()
		s.o.Logger.Debug("dropped a sealed log file", "file", lf.f.Name(), "error", err)
	}
	for _, sf := range s.oldSegments() {
		s.remove(sf)
		s.o.Logger.Info("dropped the oldest segment by retention", "file", sf.path, "records", sf.Rows())
	}
}

// oldLogs takes the sealed logs off that are of no use for a restart any more, or
// too many. One that the bucket has to have stays until it has: a batch of it that
// was never acknowledged comes again, and is a duplicate then.
func (s *Store) oldLogs() []*logFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	horizon := s.o.Now().Add(-s.o.LogHorizon)
	durable := s.remote != nil && s.remote.o.Durable
	logs, total := s.sizes()
	n := 0
	for ; n < len(s.logs)-1; n++ {
		lf := s.logs[n]
		if !lf.sealed || durable && !lf.shipped || lf.written.After(horizon) && logs <= logBytes && total <= s.o.RetentionBytes {
			break
		}
		logs, total = logs-lf.size, total-lf.size
	}
	old := s.logs[:n]
	s.logs = slices.Clone(s.logs[n:])
	return old
}

// oldSegments takes the segments off that retention does not keep. One whose log
// is still there stays: a restart would seal it again.
func (s *Store) oldSegments() []*sealedFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, total := s.sizes()
	n := 0
	for ; n < len(s.segments); n++ {
		sf := s.segments[n]
		if total <= s.o.RetentionBytes && !s.aged(sf) || !s.expendable(sf) || len(s.logs) > 0 && sf.last >= s.logs[0].number {
			break
		}
		total -= sf.Bytes
	}
	old := s.segments[:n]
	s.segments = slices.Clone(s.segments[n:])
	return old
}

// aged reports that a segment is older than anything of it is to be kept.
func (s *Store) aged(sf *sealedFile) bool {
	age := max(s.o.RetentionAge, s.o.KeepFailed)
	return s.o.RetentionAge > 0 && sf.newest < s.o.Now().Add(-age).UnixNano()
}

// sizes are the bytes of the logs, and of logs and segments. The caller holds mu.
func (s *Store) sizes() (logs, total int64) {
	for _, lf := range s.logs {
		logs += lf.size
	}
	total = logs
	for _, sf := range s.segments {
		total += sf.Bytes
	}
	return logs, total
}

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

const (
	// mergeRows is from where on a segment is large enough, so that a full log's is:
	// a look-up asks each segment, so there should be few, but a merge costs as much
	// as sealing did.
	mergeRows = 1 << 19
	// mergeCount small segments in a row are merged into one.
	mergeCount = 8
)

// mergeSmall merges runs of small segments until there is none.
func (s *Store) mergeSmall(ctx context.Context) {
	for s.settled() && ctx.Err() == nil {
		run := s.smallRun()
		if run == nil || !s.mergeRun(ctx, run) {
			return
		}
	}
}

// smallRun is a run of neighbours that are worth merging; their user is the
// caller. A run whose largest is most of it has to wait for more: its rows would
// be written again and again for the sake of a few.
func (s *Store) smallRun() []*sealedFile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var run []*sealedFile
	for _, sf := range s.segments {
		if !mergeable(sf) {
			run = nil
			continue
		}
		if n := len(run); n > 0 && s.unsealedBetween(run[n-1].last, sf.first) {
			run = nil
		}
		if run = append(run, sf); len(run) < mergeCount {
			continue
		}
		if rows, largest := rowsOf(run); 2*largest <= rows {
			for _, sf := range run {
				sf.users.enter()
			}
			return run
		}
		run = slices.Delete(run, 0, 1)
	}
	return nil
}

// mergeable reports whether a segment is small, and may be merged. The caller
// holds the store's lock.
func mergeable(sf *sealedFile) bool {
	return sf.Rows() < mergeRows && !sf.kept && !sf.whole && !sf.frozen
}

// unsealedBetween reports a log between two segments whose records are in neither:
// its own segment could not be opened, say. A segment that spans it would pass
// for having them. The caller holds mu.
func (s *Store) unsealedBetween(last, first uint64) bool {
	return slices.ContainsFunc(s.logs, func(lf *logFile) bool { return !lf.sealed && last < lf.number && lf.number < first })
}

func rowsOf(run []*sealedFile) (sum, largest int) {
	for _, sf := range run {
		sum += sf.Rows()
		largest = max(largest, sf.Rows())
	}
	return sum, largest
}

// mergeRun replaces the segments of a run by one. It reports whether something
// changed that makes another look worth while.
func (s *Store) mergeRun(ctx context.Context, run []*sealedFile) bool {
	began := time.Now()
	merged, err := s.merge(ctx, run, s.segmentPath(run[0].first, run[len(run)-1].last), segment.MergeOptions{})
	if err != nil {
		s.giveUp(ctx, run, err)
		return errors.Is(err, errLossy)
	}
	s.swap(run, merged)
	s.o.Logger.Info("merged segments", "file", merged.path, "of", len(run), "records", merged.Rows(), "took", time.Since(began))
	return true
}

// errLossy: a merge would lose what cannot be read by this program or at all, but
// may be by another.
var errLossy = errors.New("it would lose records or columns")

// merge makes one segment of several. Where it would lose something there is no
// new one.
func (s *Store) merge(ctx context.Context, run []*sealedFile, path string, o segment.MergeOptions) (*sealedFile, error) {
	var from []*segment.Segment
	for _, sf := range run {
		if unknown := sf.UnknownColumns(); len(unknown) > 0 {
			return nil, fmt.Errorf("%w: %s has columns of a newer version: %v", errLossy, sf.path, unknown)
		}
		from = append(from, sf.Segment)
	}
	o.Builder.Writer = s.writer
	summary, err := segment.Merge(ctx, path, from, o)
	if err != nil {
		return nil, err
	}
	if summary.SkippedGroups > 0 {
		return nil, errors.Join(fmt.Errorf("%w: %d row groups are damaged", errLossy, summary.SkippedGroups), os.Remove(path), os.Remove(segment.IndexPath(path)))
	}
	merged, err := s.openFiles(path)
	if err != nil {
		return nil, err
	}
	merged.first, merged.last = run[0].first, run[len(run)-1].last
	return merged, nil
}

// giveUp leaves a run as it is: for this process if it would lose something, else
// until the next time.
func (s *Store) giveUp(ctx context.Context, run []*sealedFile, err error) {
	if ctx.Err() == nil {
		s.o.Logger.Warn("segments are not merged", "first", run[0].path, "of", len(run), "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sf := range run {
		sf.whole = sf.whole || errors.Is(err, errLossy)
		sf.release()
	}
}

// swap has look-ups find the merged segment instead of the run, which it drops.
func (s *Store) swap(run []*sealedFile, merged *sealedFile) {
	s.mu.Lock()
	at := slices.Index(s.segments, run[0])
	s.segments = slices.Replace(slices.Clone(s.segments), at, at+len(run), merged)
	s.mu.Unlock()
	for _, sf := range run {
		sf.release()
		s.remove(sf)
	}
}

const keptSuffix = "-kept" // of a segment that has only what is kept longer

// keepSome replaces segments that are older than the retention by what is to be
// kept longer of them: requests that failed or were slow, whole.
func (s *Store) keepSome(ctx context.Context) {
	if s.o.RetentionAge == 0 || s.o.KeepFailed <= s.o.RetentionAge {
		return
	}
	for ctx.Err() == nil {
		sf := s.nextToThin()
		if sf == nil {
			return
		}
		path := filepath.Join(s.o.Dir, fmt.Sprintf("%016d-%016d%s%s", sf.first, sf.last, keptSuffix, segmentSuffix))
		keep := segment.Query{Failed: s.o.Slow == 0, FailedOrSlow: s.o.Slow}
		thin, err := s.merge(ctx, []*sealedFile{sf}, path, segment.MergeOptions{Keep: keep, WholeTraces: true})
		if err != nil {
			s.giveUp(ctx, []*sealedFile{sf}, err)
			if !errors.Is(err, errLossy) {
				return
			}
			continue
		}
		thin.kept = true
		s.mu.RLock()
		thin.frozen, thin.uploaded, thin.remote = sf.frozen, sf.uploaded, sf.remote
		s.mu.RUnlock()
		s.o.Logger.Info("kept the failed and slow requests of a segment", "file", thin.path, "records", thin.Rows(), "of", sf.Rows())
		s.swap([]*sealedFile{sf}, thin)
	}
}

// nextToThin is a segment that is too old to be kept whole; its user is the
// caller.
func (s *Store) nextToThin() *sealedFile {
	aged := s.o.Now().Add(-s.o.RetentionAge).UnixNano()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sf := range s.segments {
		if !sf.kept && !sf.whole && sf.newest < aged && s.expendable(sf) && (len(s.logs) == 0 || sf.last < s.logs[0].number) {
			sf.users.enter()
			return sf
		}
	}
	return nil
}

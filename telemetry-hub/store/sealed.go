package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

const (
	segmentSuffix = ".parquet"
	newSuffix     = ".new" // of what is not whole yet
)

// sealedFile is an open segment: the records of the logs first to last.
type sealedFile struct {
	*SegmentReader
	first, last    uint64
	path           string
	oldest, newest int64 // start of its records, Unix nanoseconds
	kept           bool  // it has only what is kept longer than the rest
	users          users

	// Guarded by the store's lock:
	whole    bool // a merge of it would lose something
	frozen   bool // it is uploaded, or about to be: it is merged no more
	uploaded bool // it is in the bucket
	remote   bool // look-ups find it there
	unfit    bool // it is too damaged for the bucket
}

// release gives the files back. They were only read.
func (sf *sealedFile) release() {
	if sf.users.leave() {
		_ = sf.Close()
	}
}

func (s *Store) segmentPath(first, last uint64) string {
	return filepath.Join(s.o.Dir, fmt.Sprintf("%016d-%016d%s", first, last, segmentSuffix))
}

// openSegments opens what is sealed. What a crash left half done is removed: its
// logs, or the segments that it was to replace, are still there.
func (s *Store) openSegments(files Files) error {
	for _, path := range files.halves {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	for _, f := range files.Segments {
		sf, err := s.openSegment(f.Path, f.First, f.Last)
		if err != nil { // if its log is still there it is sealed anew, over this one
			s.corrupt("segment cannot be opened, its records are not found; meshctl store verify says more", "file", f.Path, "error", err)
			continue
		}
		s.segments = append(s.segments, sf)
	}
	s.dropReplaced()
	return nil
}

// openSegment opens one segment, with a new index if the old one is of no use.
func (s *Store) openSegment(path string, first, last uint64) (*sealedFile, error) {
	sf, err := s.openFiles(path)
	if errors.Is(err, segment.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		s.corrupt("index of a segment is unusable, a new one is made", "file", path, "error", err)
		if err := s.reindex(path); err != nil {
			return nil, err
		}
		sf, err = s.openFiles(path)
	}
	if err != nil {
		return nil, err
	}
	sf.first, sf.last, sf.kept = first, last, strings.HasSuffix(path, keptSuffix+segmentSuffix)
	for _, d := range sf.Damaged() {
		s.corrupt("segment is damaged", "file", path, "error", d)
	}
	return sf, nil
}

func (s *Store) openFiles(path string) (*sealedFile, error) {
	r, err := OpenSegment(path, s.pages)
	if err != nil {
		return nil, err
	}
	sf := &sealedFile{SegmentReader: r, path: path}
	sf.users.enter()
	sf.oldest, sf.newest = sf.Span()
	return sf, nil
}

func closeAll(files ...*os.File) error {
	var errs []error
	for _, f := range files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// reindex writes a new index file from the segment's data.
func (s *Store) reindex(path string) error { return Reindex(context.Background(), path, s.pages) }

// Reindex writes a new index file for the Parquet file at path, from that file
// alone. It is an error, and the old index stays, if not all of it can be read.
func Reindex(ctx context.Context, path string, d *segment.Decoder) error {
	data, err := os.Open(path)
	if err != nil {
		return err
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		return err
	}
	b, err := segment.Reindex(ctx, segment.LocalRange{R: data}, info.Size(), rand.Uint64(), segment.Options{Name: filepath.Base(path), Decoder: d})
	if err != nil {
		return err
	}
	index := segment.IndexPath(path)
	if err := os.WriteFile(index+newSuffix, b, 0o644); err != nil { // lost in a crash it would be made again
		return err
	}
	return os.Rename(index+newSuffix, index)
}

// SegmentReader is a segment opened for reading, from outside of a hub.
type SegmentReader struct {
	*segment.Segment
	Bytes       int64 // of both files
	data, index *os.File
}

// OpenSegment opens the segment whose Parquet file is at path. It is as
// segment.Open, and an error that wraps os.ErrNotExist if a file is missing. The
// caller closes it.
func OpenSegment(path string, d *segment.Decoder) (r *SegmentReader, err error) {
	r = &SegmentReader{}
	if err := r.open(path, d); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *SegmentReader) open(path string, d *segment.Decoder) (err error) {
	if r.data, err = os.Open(path); err != nil {
		return err
	}
	if r.index, err = os.Open(segment.IndexPath(path)); err != nil {
		return err
	}
	info, err := r.index.Stat()
	if err != nil {
		return err
	}
	r.Segment, err = segment.Open(segment.LocalRange{R: r.data}, r.index, info.Size(), segment.Options{Name: filepath.Base(path), Decoder: d})
	if err == nil {
		r.Bytes = r.Size() + info.Size()
	}
	return err
}

// Close closes its files.
func (r *SegmentReader) Close() error { return closeAll(r.data, r.index) }

// dropReplaced removes segments whose records another one has: a crash came
// between its publication and the removal of what it was made of. They stand in
// the order of listFiles.
func (s *Store) dropReplaced() {
	kept := s.segments[:0]
	for _, sf := range s.segments {
		if n := len(kept); n > 0 && sf.last <= kept[n-1].last {
			s.remove(sf)
			continue
		}
		kept = append(kept, sf)
	}
	s.segments = kept
}

// remove unlinks a segment that is in no list any more; look-ups under way read
// on.
func (s *Store) remove(sf *sealedFile) {
	if err := errors.Join(os.Remove(sf.path), os.Remove(segment.IndexPath(sf.path))); err != nil {
		s.o.Logger.Warn("files of a dropped segment remain", "file", sf.path, "error", err)
	}
	sf.release()
}

// covers reports whether a segment has the records of the log with that number.
// The caller holds mu, or is alone.
func (s *Store) covers(number uint64) bool {
	return slices.ContainsFunc(s.segments, func(sf *sealedFile) bool { return sf.first <= number && number <= sf.last })
}

// lastSealed is the greatest number of a log that is sealed, 0 if none is.
func (s *Store) lastSealed() uint64 {
	if n := len(s.segments); n > 0 {
		return s.segments[n-1].last
	}
	return 0
}

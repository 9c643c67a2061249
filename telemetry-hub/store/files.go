package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Files are those of a store, as they are seen from outside, oldest first. A
// hub may go on to seal, merge and drop them.
type Files struct {
	Segments []SegmentFile
	Logs     []LogFile
	halves   []string // what is not whole yet, or was left by a crash
}

// SegmentFile has the records of the logs First to Last.
type SegmentFile struct {
	First, Last uint64
	Path        string // of the Parquet file
	// Replaced: a wider segment has its records too. The hub removes it.
	Replaced bool
}

// LogFile is one file of the log.
type LogFile struct {
	Number uint64
	Path   string
	// Sealed: a segment has its records.
	Sealed bool
}

// ListFiles lists the files of the store in dir. A folder without any is an
// error that wraps os.ErrNotExist.
func ListFiles(dir string) (Files, error) {
	f, err := listFiles(dir)
	if err == nil && len(f.Segments)+len(f.Logs) == 0 {
		err = fmt.Errorf("no records in %s: %w", dir, os.ErrNotExist)
	}
	return f, err
}

// listFiles is ListFiles where there may be none.
func listFiles(dir string) (f Files, err error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return f, fmt.Errorf("read store: %w", err)
	}
	for _, n := range names {
		f.take(dir, n.Name())
	}
	slices.SortFunc(f.Segments, func(a, b SegmentFile) int {
		// The wider one first, and what was kept of one before that one.
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last), cmp.Compare(len(b.Path), len(a.Path)))
	})
	var last uint64
	for i := range f.Segments {
		s := &f.Segments[i]
		s.Replaced = s.Last <= last
		last = max(last, s.Last)
	}
	for i := range f.Logs {
		l := &f.Logs[i]
		l.Sealed = slices.ContainsFunc(f.Segments, func(s SegmentFile) bool { return s.First <= l.Number && l.Number <= s.Last })
	}
	slices.SortFunc(f.Logs, func(a, b LogFile) int { return cmp.Compare(a.Number, b.Number) })
	return f, nil
}

// take takes a file in by its name.
func (f *Files) take(dir, file string) {
	path := filepath.Join(dir, file)
	var first, last uint64
	if strings.HasSuffix(file, newSuffix) {
		f.halves = append(f.halves, path)
	}
	if name, ok := strings.CutSuffix(file, segmentSuffix); ok {
		if _, err := fmt.Sscanf(name, "%d-%d", &first, &last); err == nil && first <= last {
			f.Segments = append(f.Segments, SegmentFile{First: first, Last: last, Path: path})
		}
	}
	if name, ok := strings.CutSuffix(file, ".log"); ok {
		if _, err := fmt.Sscanf(name, "%d", &first); err == nil {
			f.Logs = append(f.Logs, LogFile{Number: first, Path: path})
		}
	}
}

// LogCheck is what CheckLog found.
type LogCheck struct {
	Frames, Records uint64 // that are sound
	Bytes           int64
	Damaged         []LogDamage
}

// LogDamage is a stretch of a log that holds no sound batch.
type LogDamage struct {
	From, To int64
	Reason   error
	// Torn: the file ends within a frame, as the last log does after a crash or
	// while the hub writes to it. Nothing that was acknowledged is in it.
	Torn bool
}

// CheckLog reads a log or a checkpoint and compares every frame with its
// checksum. The records of a frame are counted as its batch says, not decoded.
func CheckLog(path string) (c LogCheck, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	b := &telemetryv1.Batch{}
	end, err := scan(f, func(offset int64, payload []byte) error {
		if err := proto.Unmarshal(payload, b); err != nil {
			c.Damaged = append(c.Damaged, LogDamage{From: offset, To: offset + frameHeader + int64(len(payload)), Reason: errors.New("not a batch")})
			return nil
		}
		c.Frames++
		c.Records += uint64(b.GetRecordCount())
		return nil
	}, func(d damage) {
		c.Damaged = append(c.Damaged, LogDamage{From: d.from, To: d.to, Reason: d.reason, Torn: d.torn})
	})
	c.Bytes = end
	for _, d := range c.Damaged {
		c.Bytes = max(c.Bytes, d.To)
	}
	if err != nil {
		return c, fmt.Errorf("read log %s: %w", path, err)
	}
	return c, nil
}

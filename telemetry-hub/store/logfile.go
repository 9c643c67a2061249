package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// logFile is one file of the log and its index. Everything but users is guarded
// by the store's lock, or not changed after the file is no longer written to.
type logFile struct {
	number  uint64
	f       *os.File
	size    int64
	records uint64
	oldest  int64 // Unix nanoseconds of the first batch, 0 if there is none
	// begun and written are the hub's clock, which batches need not agree with: at
	// the first batch of this process, and at the last.
	begun, written time.Time
	index          *index
	frames         []int64 // offsets, oldest first
	// sealed: its records are found in a segment, and the file remains only for
	// what else its batches say.
	sealed bool
	// shipped: it is closed, and the bucket has all of it as log or as segment.
	shipped bool
	users   users
}

// release gives the file back. It was only read since it was synced.
func (lf *logFile) release() {
	if lf.users.leave() {
		_ = lf.f.Close()
	}
}

// add takes one batch in, for it to be found unless the file is sealed.
func (lf *logFile) add(h hasher, offset int64, b *telemetryv1.Batch, c *record.Columns) {
	if lf.oldest == 0 {
		lf.oldest = b.GetTimeUnixNano()
	}
	if lf.sealed {
		return
	}
	lf.frames = append(lf.frames, offset)
	lf.records += uint64(c.Rows())
	for row := range c.Rows() {
		lf.index.add(h.trace(c.TraceID(row)), offset)
		if id := c.RequestID(row); id != "" {
			lf.index.add(h.request(id), offset)
		}
	}
}

// openLog replays one file.
func (s *Store) openLog(number uint64, last bool, replay func(*telemetryv1.Batch)) error {
	f, err := os.OpenFile(s.path(number, "log"), os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	lf := newLogFile(number, f)
	lf.sealed, lf.begun, lf.written = s.covers(number), s.o.Now(), info.ModTime()
	end, err := scan(f, func(offset int64, payload []byte) error {
		b := &telemetryv1.Batch{}
		columns, err := s.decodeFor(lf, payload, b)
		if err != nil { // sound bytes that are no batch: from a future version, or written by something else
			s.corrupt("log holds a frame that is not a batch", "file", f.Name(), "offset", offset, "error", err)
			return nil
		}
		lf.add(s.hash, offset, b, columns)
		replay(b)
		return nil
	}, func(d damage) {
		if d.torn && last {
			s.o.Logger.Warn("log ends in mid-write, cutting the torn tail", "file", f.Name(), "from", d.from, "bytes", d.to-d.from)
			return
		}
		s.corrupt("log is damaged, its batches are lost", "file", f.Name(), "from", d.from, "to", d.to, "error", d.reason)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("read log %s: %w", f.Name(), err), f.Close())
	}
	lf.size = end
	if last {
		if err := f.Truncate(end); err != nil {
			return errors.Join(fmt.Errorf("cut log %s: %w", f.Name(), err), f.Close())
		}
	}
	s.logs = append(s.logs, lf)
	return nil
}

func newLogFile(number uint64, f *os.File) *logFile {
	lf := &logFile{number: number, f: f, index: newIndex()}
	lf.users.enter()
	return lf
}

// decodeFor decodes a batch as far as it is of use: the records of a sealed file
// are not.
func (s *Store) decodeFor(lf *logFile, payload []byte, b *telemetryv1.Batch) (*record.Columns, error) {
	if lf.sealed {
		return &record.Columns{}, proto.Unmarshal(payload, b)
	}
	return decode(s.decoder, payload, b)
}

func decode(d *record.Decoder, payload []byte, b *telemetryv1.Batch) (*record.Columns, error) {
	if err := proto.Unmarshal(payload, b); err != nil {
		return nil, err
	}
	return d.Decode(b.GetRecords(), int(b.GetRecordCount()))
}

const (
	// maxUnsealed closed logs may wait to be sealed: each has some 30 MB of index in
	// memory. Then the writer waits, and so do the senders, whose buffers are
	// bounded themselves.
	maxUnsealed = 4
	// maxSealWait is how long it waits before it tells the senders to try again.
	maxSealWait = 10 * time.Second
)

// waitForSealing holds the writer up while Run is too far behind.
func (s *Store) waitForSealing() error {
	until := time.Now().Add(maxSealWait)
	for s.running.Load() && s.behind() {
		if time.Now().After(until) {
			return fmt.Errorf("%d log files wait to be sealed: the disk or the processor is too slow for what comes in, or sealing fails as the log of the hub says", maxUnsealed)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// behind reports that no more logs may wait to be sealed.
func (s *Store) behind() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.logs) > maxUnsealed && s.unsealed() >= maxUnsealed
}

// keptFrame bounds the memory that the writer keeps for the next batch.
const keptFrame = 1 << 20

// Append writes a batch. It is durable after the next Sync, and found from now
// on. A batch above MaxFrame is refused.
func (s *Store) Append(b *telemetryv1.Batch, columns *record.Columns) error {
	frame, err := proto.MarshalOptions{}.MarshalAppend(append(s.frame[:0], make([]byte, frameHeader)...), b)
	if err != nil {
		return fmt.Errorf("encode batch: %w", err)
	}
	if len(frame) > frameHeader+MaxFrame {
		return fmt.Errorf("append batch %d of %q: %d bytes are more than %d; let the sender report fewer records at once", b.GetSequence(), b.GetSender(), len(frame)-frameHeader, MaxFrame)
	}
	putFrameHeader(frame)
	if s.frame = frame; cap(frame) > keptFrame {
		s.frame = nil
	}
	if err := s.waitForSealing(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.logs) == 0 {
		return errClosed
	}
	if s.full(len(frame)) {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	lf := s.logs[len(s.logs)-1]
	if _, err := lf.f.WriteAt(frame, lf.size); err != nil {
		// What was half written would be overwritten by the next frame, if one came.
		return fmt.Errorf("append to log: %w", errors.Join(err, lf.f.Truncate(lf.size)))
	}
	lf.written = s.o.Now()
	if lf.begun.IsZero() {
		lf.begun = lf.written
	}
	lf.add(s.hash, lf.size, b, columns)
	lf.size += int64(len(frame))
	return nil
}

// full reports that a frame of that size belongs into the next file: this one
// is as large as it gets, or it is time to seal it.
func (s *Store) full(frame int) bool {
	lf := s.logs[len(s.logs)-1]
	if lf.size > 0 && lf.size+int64(frame) > s.o.FileBytes {
		return true
	}
	return lf.records > 0 && s.o.Now().Sub(lf.begun) > s.o.SealAfter
}

// Sync makes everything appended durable.
func (s *Store) Sync() error {
	s.mu.RLock()
	logs := s.logs
	s.mu.RUnlock()
	if len(logs) == 0 {
		return errClosed
	}
	f := logs[len(logs)-1].f
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	if s.remote != nil && s.remote.o.Durable {
		return s.ship()
	}
	return nil
}

// rotate starts a new file. The caller holds mu, or is alone, and is the writer:
// the checkpoint has to cover all that was appended.
func (s *Store) rotate() error {
	number := s.lastSealed() + 1
	if n := len(s.logs); n > 0 {
		last := s.logs[n-1]
		if err := last.f.Sync(); err != nil {
			return fmt.Errorf("sync log: %w", err)
		}
		number = last.number + 1
	}
	if err := s.writeCheckpoint(number); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(number, "log"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := s.syncDir(); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	s.logs = append(slices.Clone(s.logs), newLogFile(number, f))
	wake(s.work)
	return nil
}

// writeCheckpoint keeps the state as it is before the file of that number.
func (s *Store) writeCheckpoint(number uint64) error {
	var b []byte
	for _, batch := range s.o.Checkpoint() {
		payload, err := proto.Marshal(batch)
		if err != nil {
			return fmt.Errorf("encode checkpoint: %w", err)
		}
		if len(payload) > MaxFrame {
			// Refusing to write would stop every other sender as well.
			s.corrupt("the series of one sender are too many to keep, its older counts are lost at the next start", "sender", batch.GetSender(), "bytes", len(payload))
			continue
		}
		b = appendFrame(b, payload)
	}
	path := s.path(number, "checkpoint")
	f, err := os.Create(path + newSuffix)
	if err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// syncDir makes the names of new files durable.
func (s *Store) syncDir() error {
	dir, err := os.Open(s.o.Dir)
	if err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	return nil
}

// Package store keeps every batch as it came, in append-only log files, and
// finds the records of a request by its trace or request ID.
//
// Files are named by number and closed at fileBytes. When their sum passes the
// retention the oldest is dropped; what its batches had counted is kept in a
// checkpoint file beside the oldest remaining one.
//
// One goroutine writes (Append, Sync); any number read.
package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// fileBytes is the size at which a log file is closed.
const fileBytes = 64 << 20

// Options of a Store.
type Options struct {
	Dir string
	// RetentionBytes bounds all log files together; at least one file stays.
	RetentionBytes int64
	// FileBytes overrides fileBytes in tests.
	FileBytes int64
	// Checkpoint is the state of everything appended so far, kept when a file
	// is dropped.
	Checkpoint func() []*telemetryv1.Batch
	Logger     *slog.Logger
}

// Store is the record store.
type Store struct {
	o       Options
	decoder *record.Decoder
	hash    hasher

	mu    sync.RWMutex // guards the fields below
	files []*logFile   // oldest first, the last is written to

	records     atomic.Uint64
	corruptions atomic.Uint64
	oldest      atomic.Int64
}

// logFile is one file and its index.
type logFile struct {
	number  uint64
	f       *os.File
	size    int64
	records uint64
	oldest  int64 // Unix nanoseconds of the first batch
	index   *index
	frames  []int64 // offsets, oldest first

	reading sync.RWMutex // guards the field below, and keeps f open while it is read
	closed  bool
}

// close waits for who reads the file now; later readers find it closed.
func (lf *logFile) close() error {
	lf.reading.Lock()
	defer lf.reading.Unlock()
	lf.closed = true
	return lf.f.Close()
}

// errClosed answers a writer that comes too late.
var errClosed = errors.New("record store is closed; start the hub again")

// Open opens the store in o.Dir and replays it: restore sees the batches of the
// checkpoint, if there is one, then replay every batch in the order of the
// log. Damage is logged, counted and passed over; a torn tail is cut off.
func Open(o Options, restore, replay func(*telemetryv1.Batch)) (*Store, error) {
	if o.FileBytes == 0 {
		o.FileBytes = fileBytes
	}
	decoder, err := record.NewDecoder()
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, decoder: decoder, hash: hasher{maphash.MakeSeed()}}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("create store: %w", err), s.Close())
	}
	numbers, err := s.numbers()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if len(numbers) > 0 {
		s.restoreCheckpoint(numbers[0], restore)
	}
	for i, n := range numbers {
		if err := s.openFile(n, i == len(numbers)-1, replay); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if len(s.files) == 0 {
		if err := s.rotate(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.measure()
	return s, nil
}

func (s *Store) path(number uint64, suffix string) string {
	return filepath.Join(s.o.Dir, fmt.Sprintf("%016d.%s", number, suffix))
}

func (s *Store) numbers() ([]uint64, error) {
	names, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	var numbers []uint64
	for _, n := range names {
		var number uint64
		if name, ok := strings.CutSuffix(n.Name(), ".log"); ok {
			if _, err := fmt.Sscanf(name, "%d", &number); err == nil {
				numbers = append(numbers, number)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *Store) restoreCheckpoint(first uint64, restore func(*telemetryv1.Batch)) {
	f, err := os.Open(s.path(first, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		s.corrupt("checkpoint is unreadable, counts of dropped log files are lost", "file", s.path(first, "checkpoint"), "error", err)
		return
	}
	defer f.Close()
	_, err = scan(f, func(_ int64, payload []byte) error {
		b := &telemetryv1.Batch{}
		if err := proto.Unmarshal(payload, b); err != nil {
			s.corrupt("checkpoint holds a frame that is not a batch, some counts of dropped log files are lost", "file", f.Name(), "error", err)
			return nil
		}
		restore(b)
		return nil
	}, func(d damage) {
		s.corrupt("checkpoint is damaged, some counts of dropped log files are lost", "file", f.Name(), "from", d.from, "error", d.reason)
	})
	if err != nil {
		s.corrupt("checkpoint is damaged", "file", f.Name(), "error", err)
	}
}

func (s *Store) corrupt(msg string, args ...any) {
	s.corruptions.Add(1)
	s.o.Logger.Error(msg, args...)
}

func (s *Store) openFile(number uint64, last bool, replay func(*telemetryv1.Batch)) error {
	f, err := os.OpenFile(s.path(number, "log"), os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	lf := &logFile{number: number, f: f, index: newIndex()}
	end, err := scan(f, func(offset int64, payload []byte) error {
		b := &telemetryv1.Batch{}
		columns, err := s.decode(payload, b)
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
	s.files = append(s.files, lf)
	return nil
}

func (s *Store) decode(payload []byte, b *telemetryv1.Batch) (*record.Columns, error) {
	if err := proto.Unmarshal(payload, b); err != nil {
		return nil, err
	}
	return s.decoder.Decode(b.GetRecords(), int(b.GetRecordCount()))
}

// add indexes one batch.
func (lf *logFile) add(h hasher, offset int64, b *telemetryv1.Batch, c *record.Columns) {
	lf.frames = append(lf.frames, offset)
	lf.records += uint64(c.Rows())
	if lf.oldest == 0 {
		lf.oldest = b.GetTimeUnixNano()
	}
	for row := range c.Rows() {
		lf.index.add(h.trace(c.TraceID(row)), offset)
		if id := c.RequestID(row); id != "" {
			lf.index.add(h.request(id), offset)
		}
	}
}

// Append writes a batch. It is durable after the next Sync, and found from now
// on. A batch above MaxFrame is refused.
func (s *Store) Append(b *telemetryv1.Batch, columns *record.Columns) error {
	payload, err := proto.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode batch: %w", err)
	}
	if len(payload) > MaxFrame {
		return fmt.Errorf("append batch %d of %q: %d bytes are more than %d; let the sender report fewer records at once", b.GetSequence(), b.GetSender(), len(payload), MaxFrame)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return errClosed
	}
	lf := s.files[len(s.files)-1]
	frame := appendFrame(nil, payload)
	if lf.size > 0 && lf.size+int64(len(frame)) > s.o.FileBytes {
		if err := s.rotate(); err != nil {
			return err
		}
		lf = s.files[len(s.files)-1]
	}
	if _, err := lf.f.WriteAt(frame, lf.size); err != nil {
		return fmt.Errorf("append to log: %w", err) // what was half written is overwritten by the next
	}
	lf.add(s.hash, lf.size, b, columns)
	lf.size += int64(len(frame))
	s.records.Add(uint64(columns.Rows()))
	return nil
}

// Sync makes everything appended durable.
func (s *Store) Sync() error {
	s.mu.RLock()
	files := s.files
	s.mu.RUnlock()
	if len(files) == 0 {
		return errClosed
	}
	f := files[len(files)-1].f
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	return nil
}

// rotate starts a new file and drops what exceeds the retention. The caller
// holds mu, or is alone.
func (s *Store) rotate() error {
	number := uint64(1)
	if n := len(s.files); n > 0 {
		last := s.files[n-1]
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
	s.files = append(s.files, &logFile{number: number, f: f, index: newIndex()})
	s.dropOld()
	s.measure()
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
	f, err := os.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("create checkpoint: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
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

func (s *Store) dropOld() {
	var total int64
	for _, lf := range s.files {
		total += lf.size
	}
	for len(s.files) > 1 && total > s.o.RetentionBytes {
		old := s.files[0]
		s.files = s.files[1:]
		total -= old.size
		err := errors.Join(old.close(), os.Remove(s.path(old.number, "log")), os.Remove(s.path(old.number, "checkpoint")))
		s.o.Logger.Info("dropped the oldest log file by retention", "file", old.number, "records", old.records, "error", err)
	}
}

func (s *Store) measure() {
	var records uint64
	oldest := int64(0)
	for _, lf := range s.files {
		records += lf.records
		if oldest == 0 {
			oldest = lf.oldest
		}
	}
	s.records.Store(records)
	s.oldest.Store(oldest)
}

// Close closes the files.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, lf := range s.files {
		errs = append(errs, lf.f.Sync(), lf.close())
	}
	s.files = nil
	s.decoder.Close()
	return errors.Join(errs...)
}

// Stats is the store's size.
type Stats struct {
	Records, Corruptions uint64
	Bytes                int64
	Files                int
	// Oldest is the time of the oldest batch in Unix nanoseconds, 0 if none.
	Oldest int64
}

// Stats reports the store's size.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Records: s.records.Load(), Corruptions: s.corruptions.Load(), Files: len(s.files)}
	for _, lf := range s.files {
		st.Bytes += lf.size
		if st.Oldest == 0 {
			st.Oldest = lf.oldest
		}
	}
	return st
}

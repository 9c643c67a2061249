// Package store keeps every record and finds those of a request by its trace or
// request ID.
//
// A batch is first written as it came to an append-only log, which is what makes
// it durable, and is found there by an index in memory. A log file that is full,
// or some minutes old, is sealed in the background: its records become a segment
// (package segment), a Parquet file with its index beside it. A log file stays
// as long as its batches are of use to the live graph after a restart; then it is
// dropped, and what its batches had counted is in a checkpoint file beside the
// oldest that remains. When retention says so the oldest segment is dropped.
//
//	NNN.log              batches as they came
//	NNN.checkpoint       what all before that log had counted
//	NNN-MMM.parquet      the records of the logs NNN to MMM
//	NNN-MMM.parquet.index
//	NNN-MMM-kept.parquet what is kept of them beyond the age of the rest
//
// Small segments are merged into larger ones.
//
// One goroutine writes (Append, Sync) and Run seals; any number read, and nobody
// waits for them.
package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/version"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

const (
	// fileBytes is the size at which a log file is closed: about two million
	// records, which is a good size for a segment.
	fileBytes = 128 << 20
	// sealAfter is the age at which it is closed.
	sealAfter = 5 * time.Minute
	// logHorizon is how far back the live graph looks, and logBytes bounds what is
	// kept for its sake.
	logHorizon = 15 * time.Minute
	logBytes   = 512 << 20
)

// Options of a Store. Dir, RetentionBytes, Checkpoint and Logger are required.
type Options struct {
	Dir string
	// RetentionBytes bounds logs and segments together. What is not sealed yet is
	// never dropped.
	RetentionBytes int64
	// RetentionAge drops segments whose newest record is older; 0 keeps them.
	RetentionAge time.Duration
	// KeepFailed is how old requests may get that failed, or took longer than Slow
	// if that is above 0: beyond RetentionAge only they are kept, with all their
	// hops.
	KeepFailed, Slow time.Duration
	// FileBytes, SealAfter and LogHorizon override the constants above.
	FileBytes             int64
	SealAfter, LogHorizon time.Duration
	// Remote is the bucket that segments go to, if any.
	Remote *Remote
	// Checkpoint is the state of everything appended so far, kept when a file
	// begins.
	Checkpoint func() []*telemetryv1.Batch
	Logger     *slog.Logger
	Now        func() time.Time // time.Now if nil
}

func (o *Options) setDefaults() {
	if o.FileBytes == 0 {
		o.FileBytes = fileBytes
	}
	if o.SealAfter == 0 {
		o.SealAfter = sealAfter
	}
	if o.LogHorizon == 0 {
		o.LogHorizon = logHorizon
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Store is the record store.
type Store struct {
	o       Options
	remote  *Remote // nil without a bucket
	decoder *record.Decoder
	pages   *segment.Decoder
	hash    hasher
	writer  string
	work    chan struct{} // has room for one: there is something to seal
	frame   []byte        // the writer's, used again

	mu sync.RWMutex // guards the fields below; the slices are replaced, never changed
	// logs, oldest first, the last is written to; none once the store is closed.
	logs     []*logFile
	segments []*sealedFile // oldest first
	closed   bool

	running      atomic.Bool // Run
	corruptions  atomic.Uint64
	sealed       atomic.Uint64
	sealFailures atomic.Uint64
}

// errClosed answers a writer that comes too late.
var errClosed = errors.New("record store is closed; start the hub again")

// Open opens the store in o.Dir and replays its logs: restore sees the batches of
// the checkpoint, if there is one, then replay every batch in the order of the
// log. Damage is logged, counted and passed over; a torn tail is cut off.
func Open(o Options, restore, replay func(*telemetryv1.Batch)) (*Store, error) {
	o.setDefaults()
	s := &Store{o: o, remote: o.Remote, hash: hasher{maphash.MakeSeed()}, writer: "telemesh " + version.String(), work: make(chan struct{}, 1)}
	if err := s.open(restore, replay); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(restore, replay func(*telemetryv1.Batch)) error {
	var err error
	if s.decoder, err = record.NewDecoder(); err != nil {
		return err
	}
	if s.pages, err = segment.NewDecoder(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.o.Dir, 0o755); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	files, err := listFiles(s.o.Dir)
	if err != nil {
		return err
	}
	if err := s.openSegments(files); err != nil {
		return err
	}
	if len(files.Logs) > 0 {
		s.restoreCheckpoint(files.Logs[0].Number, restore)
	}
	for i, l := range files.Logs {
		if err := s.openLog(l.Number, i == len(files.Logs)-1, replay); err != nil {
			return err
		}
	}
	n := len(s.logs)
	// What the bucket has of a log, a crash may have cut off here: another begins.
	again := n > 0 && s.remote != nil && s.remote.o.Durable && s.logs[n-1].size > 0
	if n == 0 || s.logs[n-1].sealed || again {
		return s.rotate()
	}
	return nil
}

func (s *Store) path(number uint64, suffix string) string {
	return filepath.Join(s.o.Dir, fmt.Sprintf("%016d.%s", number, suffix))
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

// view is the store as it stands: the logs whose records are in no segment yet,
// and the segments. Done gives it back. Logs that are written to meanwhile show
// what they had.
type view struct {
	logs     []logView // oldest first
	segments []*sealedFile
	remote   []*sealedFile // what only the bucket has, by their newest
}

// logView is a log as it stood, which it goes on to be for the view when it is
// sealed meanwhile.
type logView struct {
	*logFile
	index  *index // to be read under the store's lock: the last log's grows
	frames []int64
}

func (s *Store) view() view {
	v := s.localView()
	if s.remote != nil { // behind: what is dropped here is found there before
		v.addRemote(s.remote)
	}
	return v
}

func (s *Store) localView() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := view{segments: s.segments}
	for _, lf := range s.logs {
		if !lf.sealed {
			lf.users.enter()
			v.logs = append(v.logs, logView{lf, lf.index, lf.frames})
		}
	}
	for _, sf := range v.segments {
		sf.users.enter()
	}
	return v
}

func (v *view) done() {
	for _, lf := range v.logs {
		lf.release()
	}
	for _, sf := range slices.Concat(v.segments, v.remote) {
		sf.release()
	}
}

// unsealed is how many closed logs wait to be sealed. The caller holds mu.
func (s *Store) unsealed() (n int) {
	for _, lf := range s.logs[:max(len(s.logs)-1, 0)] {
		if !lf.sealed {
			n++
		}
	}
	return n
}

// Close closes the files. Run has returned by then.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, lf := range s.logs {
		errs = append(errs, lf.f.Sync())
		lf.release()
	}
	for _, sf := range s.segments {
		sf.release()
	}
	s.logs, s.segments = nil, nil
	if s.closed {
		return nil
	}
	s.closed = true
	if s.remote != nil {
		errs = append(errs, s.remote.close())
	}
	if s.decoder != nil {
		s.decoder.Close()
	}
	if s.pages != nil {
		s.pages.Close()
	}
	return errors.Join(errs...)
}

// Stats is the store's size.
type Stats struct {
	Records, Corruptions uint64
	Bytes, LogBytes      int64 // of all files, and of the logs among them
	Segments             int
	SealedRecords        uint64 // those in segments
	// Unsealed logs beyond the one that is written to, and segments sealed and
	// sealings failed since the start.
	Unsealed             int
	Sealed, SealFailures uint64
	// Oldest is the start of the oldest record in Unix nanoseconds, 0 if none; of
	// those in the log it is the time of the batch.
	Oldest int64
}

// Stats reports the store's size.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Corruptions: s.corruptions.Load(), Segments: len(s.segments), Sealed: s.sealed.Load(), SealFailures: s.sealFailures.Load()}
	older := func(at int64) {
		if at != 0 && (st.Oldest == 0 || at < st.Oldest) {
			st.Oldest = at
		}
	}
	for _, sf := range s.segments {
		st.SealedRecords += uint64(sf.Rows())
		st.Bytes += sf.Bytes
		older(sf.oldest)
	}
	st.Records = st.SealedRecords
	st.Unsealed = s.unsealed()
	for _, lf := range s.logs {
		st.LogBytes += lf.size
		if lf.sealed {
			continue
		}
		st.Records += lf.records
		if lf.records > 0 {
			older(lf.oldest)
		}
	}
	st.Bytes += st.LogBytes
	return st
}

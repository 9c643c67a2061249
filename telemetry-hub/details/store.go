// Package details keeps the thick details of requests that sidecars sent, and
// asks them for more: for what a person opens, and for the other hops of a
// request that failed or was slow on one.
//
//	store      what came, on disk, bounded by bytes
//	collector  orders to the sidecars, and what became of them
//	follow     the other hops of what went wrong
//	view       a detail in the API's form
package details

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

const (
	// files is how many the store is divided into: the oldest goes as a whole.
	files    = 8
	suffix   = ".details"
	maxFrame = 4 << 20 // a batch's details are below
	// maxPerTrace bounds what one look-up reads.
	maxPerTrace = 256
	syncEvery   = time.Second
)

// Trace is a trace ID.
type Trace [16]byte

// StoreOptions are what a Store needs.
type StoreOptions struct {
	Dir string
	// Bytes bounds the files together; the oldest details go first.
	Bytes  int64
	Logger *slog.Logger
}

// Store is a log of details in a few files. Each frame is a Batch with nothing
// but its sender, its time and details. What was written survives the process
// at once, and the machine after a second: unlike records, details may be asked
// for again. It is safe for concurrent use.
type Store struct {
	o       StoreOptions
	damages atomic.Uint64

	mu    sync.RWMutex // guards the fields below
	files []*file      // oldest first, never empty until Close; the last is written to
	index map[Trace][]ref
	size  int64
	dirty bool
}

type file struct {
	number uint64
	f      *os.File
	size   int64
	traces []Trace // in it, each as often as it has a ref
}

// ref is where a trace has details.
type ref struct {
	file   *file
	offset int64
}

// Kept is a detail with whom it is from.
type Kept struct {
	Sender string
	Detail *telemetryv1.Detail
}

// Open reads the directory's files. A torn end, as after a crash, is cut off;
// other damage is skipped and counted.
func Open(o StoreOptions) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("create directory of details: %w", err)
	}
	numbers, err := numbersIn(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list details: %w", err)
	}
	s := &Store{o: o, index: make(map[Trace][]ref)}
	for i, n := range numbers {
		if err := s.read(n, i == len(numbers)-1); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if len(s.files) == 0 {
		if err := s.rotate(); err != nil {
			return nil, err
		}
	}
	s.forget()
	return s, nil
}

func numbersIn(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *Store) path(number uint64) string {
	return filepath.Join(s.o.Dir, fmt.Sprintf("%016d%s", number, suffix))
}

// read takes a file in. The last one is cut where its sound frames end.
func (s *Store) read(number uint64, last bool) error {
	f, err := os.OpenFile(s.path(number), os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("open details: %w", err)
	}
	one := &file{number: number, f: f}
	s.files = append(s.files, one)
	end, err := store.ScanFrames(f, func(offset int64, payload []byte) error {
		b := &telemetryv1.Batch{}
		if err := proto.Unmarshal(payload, b); err != nil {
			s.damage(one, "details hold a frame that is none of theirs", "offset", offset, "error", err)
			return nil
		}
		s.note(one, offset, b.GetDetails())
		return nil
	}, func(from, to int64, torn bool, reason error) {
		if torn && last {
			s.o.Logger.Warn("details end in mid-write, cutting the torn tail", "file", f.Name(), "from", from, "bytes", to-from)
			return
		}
		s.damage(one, "details are damaged, some are lost", "from", from, "to", to, "error", reason)
	})
	if err == nil && last {
		err = f.Truncate(end)
	}
	if err != nil {
		return fmt.Errorf("read details: %w", err)
	}
	one.size = end
	s.size += end
	return nil
}

func (s *Store) damage(f *file, message string, more ...any) {
	s.damages.Add(1)
	s.o.Logger.Error(message, append([]any{"file", f.f.Name()}, more...)...)
}

// note indexes a frame. The caller holds mu, or is alone.
func (s *Store) note(f *file, offset int64, details []*telemetryv1.Detail) {
	for _, d := range details {
		if len(d.GetTraceId()) != len(Trace{}) {
			continue
		}
		t := Trace(d.GetTraceId())
		refs := s.index[t]
		if n := len(refs); n > 0 && refs[n-1] == (ref{f, offset}) || n >= maxPerTrace {
			continue
		}
		s.index[t] = append(refs, ref{f, offset})
		f.traces = append(f.traces, t)
	}
}

// Append keeps a batch's details.
func (s *Store) Append(sender string, timeUnixNano int64, details []*telemetryv1.Detail) error {
	payload, err := proto.Marshal(&telemetryv1.Batch{Sender: sender, TimeUnixNano: timeUnixNano, Details: details})
	if err != nil {
		return fmt.Errorf("encode details: %w", err)
	}
	frame := store.AppendFrame(nil, payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return errors.New("append details: the store is closed")
	}
	last := s.files[len(s.files)-1]
	if last.size > 0 && last.size+int64(len(frame)) > s.o.Bytes/files {
		if err := s.rotate(); err != nil {
			return err
		}
		last = s.files[len(s.files)-1]
	}
	if _, err := last.f.WriteAt(frame, last.size); err != nil {
		return fmt.Errorf("append details: %w", errors.Join(err, last.f.Truncate(last.size)))
	}
	s.note(last, last.size, details)
	last.size += int64(len(frame))
	s.size += int64(len(frame))
	s.dirty = true
	s.forget()
	return nil
}

// rotate begins a file. The caller holds mu, or is alone.
func (s *Store) rotate() error {
	number := uint64(1)
	if n := len(s.files); n > 0 {
		number = s.files[n-1].number + 1
	}
	f, err := os.OpenFile(s.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create file of details: %w", err)
	}
	s.files = append(s.files, &file{number: number, f: f})
	return nil
}

// forget drops the oldest files while there is too much. The caller holds mu, or
// is alone.
func (s *Store) forget() {
	for s.size > s.o.Bytes && len(s.files) > 1 {
		old := s.files[0]
		s.files = s.files[1:]
		s.size -= old.size
		for _, t := range old.traces {
			refs := slices.DeleteFunc(s.index[t], func(r ref) bool { return r.file == old })
			if len(refs) == 0 {
				delete(s.index, t)
			} else {
				s.index[t] = refs
			}
		}
		if err := errors.Join(old.f.Close(), os.Remove(old.f.Name())); err != nil {
			s.o.Logger.Warn("old details are not removed", "error", err)
		}
	}
}

// Find returns what is kept of a trace: of each request at each side one detail,
// that which the sidecar sent by itself if it did. What cannot be read is left out and counted.
func (s *Store) Find(t Trace) []Kept {
	s.mu.RLock()
	defer s.mu.RUnlock() // a file is not closed meanwhile
	var found []Kept
	at := make(map[Key]int)
	for _, r := range s.index[t] {
		payload, err := store.ReadFrame(r.file.f, r.offset, maxFrame)
		b := &telemetryv1.Batch{}
		if err == nil {
			err = proto.Unmarshal(payload, b)
		}
		if err != nil {
			s.damage(r.file, "details cannot be read", "offset", r.offset, "error", err)
			continue
		}
		for _, d := range b.GetDetails() {
			if k, ok := KeyOf(d); ok && k.Trace == t {
				if i, ok := at[k]; ok {
					if d.GetTrigger() == vocab.TriggerOrder {
						continue // it came along with another one, and says less of why
					}
					found[i] = Kept{b.GetSender(), d}
					continue
				}
				at[k] = len(found)
				found = append(found, Kept{b.GetSender(), d})
			}
		}
	}
	return found
}

// Bytes is what the files take.
func (s *Store) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size
}

// Damages counts the damaged places that were found.
func (s *Store) Damages() uint64 { return s.damages.Load() }

// Run makes what was written durable, every second, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.sync(); err != nil {
				s.o.Logger.Warn("details are not durable yet", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Store) sync() error {
	s.mu.Lock()
	dirty := s.dirty && len(s.files) > 0
	s.dirty = false
	var f *os.File
	if dirty {
		f = s.files[len(s.files)-1].f
	}
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sync details: %w", err)
	}
	return nil
}

// Close closes the files. It may be called twice.
func (s *Store) Close() error {
	err := s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		err = errors.Join(err, f.f.Close())
	}
	s.files, s.index = nil, nil
	return err
}

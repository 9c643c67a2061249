package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/bucket"
)

const (
	// chunkEvery bounds how often the log is put into the bucket: each object
	// costs, however small. Batches wait for it to be acknowledged.
	chunkEvery = 250 * time.Millisecond
	// chunkBytes bounds a chunk, and the memory for it.
	chunkBytes = 16 << 20
	// leaseWait is how long a writer waits for the lease.
	leaseWait = 2 * time.Second
)

// errNotHeld answers a writer while the hub may not write to the bucket.
var errNotHeld = errors.New("the lease on this hub's log in the bucket is not ours yet, or the bucket does not answer; the hub goes on trying")

// shipper puts the log into the bucket, as the writer syncs it; it is the
// writer's alone.
type shipper struct {
	ends map[uint64]int64 // of the logs in the bucket, by number; nil: not known yet
	last time.Time
	buf  []byte
}

// ship puts what was appended and is not there into the bucket. The caller is the
// writer.
func (s *Store) ship() error {
	r := s.remote
	if err := r.awaitLease(); err != nil {
		return err
	}
	if err := r.pause(); err != nil {
		return err
	}
	if err := s.learnEnds(); err != nil {
		return err
	}
	archived := s.archived()
	s.mu.RLock()
	logs := s.logs
	s.mu.RUnlock()
	for _, lf := range logs {
		if lf.number <= archived {
			delete(r.chunks.ends, lf.number)
			continue
		}
		if err := r.shipLog(lf); err != nil {
			return fmt.Errorf("log into the bucket: %w", err)
		}
	}
	// Whoever takes the log over reads what was there when the lease had ended.
	if !r.lease.Held() {
		return errNotHeld
	}
	s.noteShipped(logs[:max(len(logs)-1, 0)])
	return nil
}

// noteShipped lets closed logs, all of which the bucket has, go from the disk.
func (s *Store) noteShipped(logs []*logFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lf := range logs {
		lf.shipped = true
	}
}

// awaitLease waits a moment for the lease, which a hub that starts takes first.
func (r *Remote) awaitLease() error {
	for until := time.Now().Add(leaseWait); !r.lease.Held(); {
		if time.Now().After(until) || r.ctx.Err() != nil {
			return errNotHeld
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (r *Remote) pause() error {
	wait := time.NewTimer(chunkEvery - time.Since(r.chunks.last))
	defer wait.Stop()
	select {
	case <-wait.C:
		r.chunks.last = time.Now()
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// learnEnds finds out what of the log is in the bucket.
func (s *Store) learnEnds() error {
	r := s.remote
	if r.chunks.ends != nil {
		return nil
	}
	if err := s.learn(r.ctx); err != nil {
		return err
	}
	ends, err := r.b.ChunkEnds(r.ctx, r.hub.Name)
	if err != nil {
		return err
	}
	r.chunks.ends = ends
	return nil
}

// shipLog puts the rest of one log into the bucket.
func (r *Remote) shipLog(lf *logFile) error {
	for end := r.chunks.ends[lf.number]; end < lf.size; {
		n := min(lf.size-end, chunkBytes)
		if int64(cap(r.chunks.buf)) < n {
			r.chunks.buf = make([]byte, n)
		}
		buf := r.chunks.buf[:n]
		if _, err := lf.f.ReadAt(buf, end); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := r.b.PutChunk(r.ctx, r.hub.Name, lf.number, end, buf); err != nil {
			return err
		}
		end += n
		r.chunks.ends[lf.number] = end
	}
	if cap(r.chunks.buf) > keptFrame {
		r.chunks.buf = nil
	}
	return nil
}

// dropChunks deletes what segments in the bucket have.
func (r *Remote) dropChunks(ctx context.Context, s *Store) error {
	if n := s.archived(); r.o.Durable && n > 0 {
		return r.b.DropChunks(ctx, r.hub.Name, n)
	}
	return nil
}

// keepLease keeps the lease on this hub's log. Its error is that another has it.
func (r *Remote) keepLease(ctx context.Context) error {
	for {
		ours, err := r.lease.Renew(ctx)
		if err == nil && !ours {
			var lost bool
			if lost, err = r.lease.Lost(ctx); lost && err == nil {
				return errTakenOver(r.hub.Name)
			}
		}
		wait := r.o.Lease / bucket.RenewParts
		if err != nil && ctx.Err() == nil {
			r.o.Logger.Warn("the lease on this hub's log is not renewed", "error", err)
		}
		if !ours {
			wait = min(wait, lookEvery)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil // not given up: nobody is to take over the log of a hub that starts again
		}
	}
}

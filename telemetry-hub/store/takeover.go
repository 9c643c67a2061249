package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/telemetry-hub/bucket"
)

// takeOver seals the logs of hubs that are silent longer than their lease.
func (r *Remote) takeOver(ctx context.Context, s *Store) error {
	tick := time.NewTicker(r.o.Lease / bucket.RenewParts)
	defer tick.Stop()
	leases := map[string]*bucket.Lease{}
	for {
		if err := r.lookForLost(ctx, s, leases); err != nil && ctx.Err() == nil {
			r.o.Logger.Warn("logs of lost hubs are not taken over yet", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// lookForLost asks for the lease of every other hub whose log is in the bucket.
func (r *Remote) lookForLost(ctx context.Context, s *Store, leases map[string]*bucket.Lease) error {
	owners, err := r.b.ChunkOwners(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range owners {
		if o.Hub == r.hub.Name {
			continue
		}
		lease := leases[o.Hub]
		if lease == nil {
			if lease, err = r.b.ChunkLease(o.Hub, r.hub.Nonce, r.o.Lease); err != nil {
				errs = append(errs, err)
				continue
			}
			leases[o.Hub] = lease
		}
		ours, err := lease.Renew(ctx)
		if err == nil && ours {
			err = errors.Join(s.takeOne(ctx, o, lease), lease.Release(ctx))
			delete(leases, o.Hub)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// errLeaseEnded: taking over goes on when the lease is there again, here or
// elsewhere.
var errLeaseEnded = errors.New("the lease on the lost hub's log has ended")

// takeOne seals and uploads all logs of one lost hub, each as a segment of that
// hub, as it would have done itself, and drops them.
func (s *Store) takeOne(ctx context.Context, owner bucket.ChunkOwner, lease *bucket.Lease) error {
	r, hub := s.remote, owner.Hub
	r.o.Logger.Warn("taking over the log of a hub that is silent", "hub", hub)
	have, err := r.b.Logs(ctx, hub)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.o.Dir, "takeover")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	logs, err := s.download(ctx, hub, dir, have)
	if err != nil {
		return err
	}
	for _, number := range logs {
		if !has(have, number, number) {
			if err := s.uploadLost(ctx, hub, dir, number); err != nil {
				return fmt.Errorf("log %d of hub %s: %w", number, hub, err)
			}
		}
		if ours, err := lease.Renew(ctx); err != nil || !ours {
			return errors.Join(err, errLeaseEnded)
		}
		if err := r.b.DropChunks(ctx, hub, number); err != nil {
			return err
		}
		r.takenOver.Add(1)
	}
	// What is damaged has told so, and is nobody's any more.
	if err := r.b.DropChunks(ctx, hub, owner.Last); err != nil {
		return err
	}
	wake(r.poll)
	r.o.Logger.Info("the log of a lost hub is sealed", "hub", hub, "logs", len(logs))
	return nil
}

func lostLog(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%d.log", number))
}

// download writes the chunks of a hub's logs to files in dir, one for each log
// that no segment has, and returns the numbers of all, in order.
func (s *Store) download(ctx context.Context, hub, dir string, have []bucket.Log) (numbers []uint64, err error) {
	var f *os.File
	closing := func() error {
		if f == nil {
			return nil
		}
		err := f.Close()
		f = nil
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	for chunk, err := range s.remote.b.Chunks(ctx, hub) {
		if errors.Is(err, bucket.ErrGap) || errors.Is(err, bucket.ErrDamaged) {
			s.corrupt("log of a lost hub is damaged, some batches are lost", "hub", hub, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if n := len(numbers); n == 0 || numbers[n-1] != chunk.Number {
			numbers = append(numbers, chunk.Number)
			if err := closing(); err != nil {
				return nil, err
			}
		}
		if has(have, chunk.Number, chunk.Number) {
			continue
		}
		if f == nil {
			if f, err = os.Create(lostLog(dir, chunk.Number)); err != nil {
				return nil, err
			}
		}
		if _, err := f.WriteAt(chunk.Bytes, chunk.Offset); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// uploadLost seals one log and uploads the segment.
func (s *Store) uploadLost(ctx context.Context, hub, dir string, number uint64) error {
	f, err := os.Open(lostLog(dir, number))
	if err != nil {
		return err
	}
	lf := newLogFile(number, f)
	defer lf.release()
	_, err = scan(f, func(offset int64, _ []byte) error {
		lf.frames = append(lf.frames, offset)
		return nil
	}, func(d damage) {
		s.corrupt("log of a lost hub is damaged, some batches are lost", "hub", hub, "log", number, "from", d.from, "to", d.to, "error", d.reason)
	})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("%d%s", number, segmentSuffix))
	if ok, err := s.sealTo(ctx, path, lf); !ok || err != nil {
		return err
	}
	meta, err := s.remote.b.Upload(ctx, path, bucket.Log{Hub: hub, First: number, Last: number})
	if err == nil {
		s.o.Logger.Info("uploaded a segment of a lost hub", "segment", meta.Name(), "records", meta.Rows)
	}
	return err
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemesh/telemesh/telemetry-hub/bucket"
)

// ErrIncomplete marks an answer without some of what stands in the bucket, which
// could not be read. What came with it is right.
var ErrIncomplete = errors.New("not all of the bucket could be read")

// uploadAfter is the age of a segment's newest record at which it is uploaded
// even if it is small: until then it is merged with its neighbours, and other hubs
// do not find it.
const uploadAfter = 15 * time.Minute

// lookEvery is how often a first connection to the bucket, and uploads that
// failed, are tried again.
const lookEvery = 5 * time.Second

// RemoteOptions say how a store uses a bucket. What is zero has a default, but
// for Config, Dir, Hub and Logger.
type RemoteOptions struct {
	// Config is a Thanos YAML block, as bucket.Open reads it.
	Config []byte
	// Dir is the store's folder. The hub's name in the bucket is kept in it, so
	// that a hub that has lost its disk is another one.
	Dir string
	// Hub is what that name begins with.
	Hub string
	// CacheDir and CacheBytes are of the local copy of what was read.
	CacheDir   string
	CacheBytes int64
	// Durable: a batch is durable when it is in the bucket, too.
	Durable bool
	// UploadAfter, Poll and Lease override the constants of that name and those of
	// package bucket. Lease is how long a hub may be silent before another takes its
	// log over; all hubs of a bucket name the same.
	UploadAfter, Poll, Lease time.Duration
	// Retention is what the bucket keeps.
	Retention bucket.RetentionOptions
	Logger    *slog.Logger
	Now       func() time.Time // time.Now if nil
}

// Remote is the bucket of one store. The store that it is given to closes it.
type Remote struct {
	o         RemoteOptions
	b         *bucket.Bucket
	hub       identity
	live      *bucket.Live
	retention *bucket.Retention
	lease     *bucket.Lease // on this hub's log
	chunks    shipper
	work      chan struct{} // has room for one: there may be something to upload
	poll      chan struct{} // has room for one: there is something new in the bucket
	ctx       context.Context
	stop      context.CancelFunc // ends ctx, in which the writer waits for the bucket

	mu  sync.Mutex   // guards the field below
	own []bucket.Log // of this hub's segments that were in the bucket at its start; nil: not known yet

	uploads, uploadFailures, takenOver, readFailures atomic.Uint64
}

// OpenRemote opens the bucket of the store in o.Dir, which is not open yet. The
// bucket need not be reachable. If another hub has taken this one's log over, what
// was acknowledged is in the bucket: the store's files are set aside, and the hub
// goes on under another name.
func OpenRemote(ctx context.Context, o RemoteOptions) (*Remote, error) {
	if o.UploadAfter == 0 {
		o.UploadAfter = uploadAfter
	}
	if o.Poll == 0 {
		o.Poll = bucket.DefaultPoll
	}
	if o.Lease == 0 {
		o.Lease = bucket.DefaultLease
	}
	o.Retention.Lease = o.Lease
	r, err := openRemote(o)
	if err != nil || !o.Durable || !r.lost(ctx) {
		return r, err
	}
	o.Logger.Warn("another hub has taken this hub's log over; its records are in the bucket, and this hub begins anew under another name", "was", r.hub.Name)
	if err := errors.Join(r.close(), setAside(o.Dir)); err != nil {
		return nil, err
	}
	return openRemote(o)
}

func openRemote(o RemoteOptions) (*Remote, error) {
	id, err := identify(o.Dir, o.Hub)
	if err != nil {
		return nil, err
	}
	b, err := bucket.Open(o.Config, bucket.Options{Hub: id.Name, CacheDir: o.CacheDir, CacheBytes: o.CacheBytes, Logger: o.Logger, Now: o.Now})
	if err != nil {
		return nil, err
	}
	r := &Remote{o: o, b: b, hub: id, live: bucket.NewLive(b, o.Poll), work: make(chan struct{}, 1), poll: make(chan struct{}, 1)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.retention, err = bucket.NewRetention(b, o.Retention, r.metas)
	if err == nil {
		r.lease, err = b.ChunkLease(id.Name, id.Nonce, o.Lease)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *Remote) close() error {
	r.stop()
	return r.b.Close()
}

// lost reports whether another hub has taken the log over. A bucket that does not
// answer is asked again when it is written to.
func (r *Remote) lost(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	lost, err := r.lease.Lost(ctx)
	if err != nil {
		r.o.Logger.Warn("the bucket does not answer yet", "error", err)
	}
	return lost
}

func (r *Remote) metas() (list []bucket.Meta) {
	for _, s := range r.live.Segments() {
		list = append(list, s.Meta)
	}
	return list
}

// run does what a store does with its bucket, until ctx ends. An error is that
// the hub has lost its log, and must not go on.
func (r *Remote) run(ctx context.Context, g *errgroup.Group, s *Store) {
	context.AfterFunc(ctx, r.stop)
	g.Go(func() error { return r.follow(ctx, s) })
	g.Go(func() error { return r.upload(ctx, s) })
	g.Go(func() error { return r.retention.Run(ctx) })
	g.Go(func() error { return r.takeOver(ctx, s) })
	if r.o.Durable {
		g.Go(func() error { return r.keepLease(ctx) })
	}
}

// follow keeps the segments of the bucket open.
func (r *Remote) follow(ctx context.Context, s *Store) error {
	tick := time.NewTicker(r.o.Poll)
	defer tick.Stop()
	for {
		if err := r.live.Poll(ctx); err != nil && ctx.Err() == nil {
			r.o.Logger.Warn("some segments of the bucket are not found", "error", err)
		}
		s.reconcile()
		select {
		case <-tick.C:
		case <-r.poll:
		case <-ctx.Done():
			return nil
		}
	}
}

// learn finds out which of this hub's segments are in the bucket, once.
func (s *Store) learn(ctx context.Context) error {
	r := s.remote
	if _, known := r.known(); known {
		return nil
	}
	logs, err := r.b.Logs(ctx, r.hub.Name)
	if err != nil {
		return err
	}
	s.noteUploaded(logs) // before anybody decides what is to be merged
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		r.own = append([]bucket.Log{}, logs...)
	}
	return nil
}

// noteUploaded notes which of the store's segments are in the bucket.
func (s *Store) noteUploaded(logs []bucket.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sf := range s.segments {
		sf.uploaded = sf.uploaded || has(logs, sf.first, sf.last)
		sf.frozen = sf.frozen || sf.uploaded
	}
}

// known are the logs of this hub's segments that were in the bucket at its start;
// false before learn has succeeded.
func (r *Remote) known() ([]bucket.Log, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own, r.own != nil
}

// settled reports that what is not marked as uploaded is not in the bucket.
func (s *Store) settled() bool {
	if s.remote == nil {
		return true
	}
	_, known := s.remote.known()
	return known
}

// wake tells a goroutine that there is work.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it knows
	}
}

// has reports whether a segment of the bucket has all of a hub's logs from first
// to last.
func has(logs []bucket.Log, first, last uint64) bool {
	return slices.ContainsFunc(logs, func(l bucket.Log) bool { return l.First <= first && last <= l.Last })
}

// reconcile notes which of the store's segments look-ups find in the bucket.
func (s *Store) reconcile() {
	r := s.remote
	var open []bucket.Log
	for _, m := range r.metas() {
		if m.Log.Hub == r.hub.Name {
			open = append(open, m.Log)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sf := range s.segments {
		sf.remote = sf.remote || has(open, sf.first, sf.last)
	}
}

// addRemote adds to a view what only the bucket has.
func (v *view) addRemote(r *Remote) {
	var own []bucket.Log
	for _, m := range r.live.Segments() {
		if m.Log.Hub == r.hub.Name {
			if v.local(m.Log) {
				continue
			}
			own = append(own, m.Log)
		}
		sf := &sealedFile{SegmentReader: &SegmentReader{Segment: m.Segment}, path: m.Name(), oldest: m.MinStart, newest: m.MaxStart, remote: true}
		sf.users.enter()
		v.remote = append(v.remote, sf)
	}
	if len(own) == 0 {
		return
	}
	v.segments = slices.DeleteFunc(slices.Clone(v.segments), func(sf *sealedFile) bool {
		double := sf.kept && has(own, sf.first, sf.last)
		if double {
			sf.release()
		}
		return double
	})
}

// local reports whether the store itself has the records of these logs, all of
// them.
func (v *view) local(l bucket.Log) bool {
	return slices.ContainsFunc(v.segments, func(sf *sealedFile) bool { return !sf.kept && sf.first <= l.First && l.Last <= sf.last }) ||
		l.First == l.Last && slices.ContainsFunc(v.logs, func(lf logView) bool { return lf.number == l.First })
}

// RemoteStats is what a store knows of its bucket.
type RemoteStats struct {
	Hub                     string // the name there
	Segments                int    // of all hubs, that are found
	Records                 uint64
	Bytes                   int64
	Waiting                 int // local segments that are not in the bucket yet
	Uploads, UploadFailures uint64
	TakenOver               uint64 // logs of lost hubs
	ReadFailures            uint64 // of look-ups
	Leader                  bool   // of retention
	Bucket                  bucket.Stats
}

// Remote reports on the bucket; false if there is none.
func (s *Store) Remote() (RemoteStats, bool) {
	r := s.remote
	if r == nil {
		return RemoteStats{}, false
	}
	st := RemoteStats{
		Hub: r.hub.Name, Uploads: r.uploads.Load(), UploadFailures: r.uploadFailures.Load(), TakenOver: r.takenOver.Load(),
		ReadFailures: r.readFailures.Load(), Leader: r.retention.Leader(), Bucket: r.b.Stats(),
	}
	for _, m := range r.metas() {
		st.Segments++
		st.Records += uint64(m.Rows)
		st.Bytes += m.Records.Bytes + m.Index.Bytes
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sf := range s.segments {
		if !sf.uploaded && !sf.unfit {
			st.Waiting++
		}
	}
	return st, true
}

// errTakenOver ends a hub whose log another has taken over while it was silent.
func errTakenOver(name string) error {
	return fmt.Errorf("another hub has taken over the log of %s, which was silent too long; what was acknowledged is in the bucket: start the hub again, it goes on under another name", name)
}

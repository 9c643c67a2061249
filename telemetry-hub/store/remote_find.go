package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/telemetry-hub/bucket"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// remoteFinds is how many segments of the bucket one look-up asks at once: most
// answer from their index, which is here, and those that may have the ID from the
// bucket.
const remoteFinds = 16

// answer is what one segment of the bucket gave.
type answer struct {
	found []segment.Found
	err   error
}

// ask asks segments of the bucket at once, until there is room for no more, and
// returns their answers in order.
func ask(ctx context.Context, list []*sealedFile, room int, find func(*sealedFile) ([]segment.Found, error)) []answer {
	answers := make([]answer, len(list))
	var found atomic.Int64
	var g errgroup.Group
	g.SetLimit(remoteFinds)
	for i, sf := range list {
		g.Go(func() error {
			if ctx.Err() == nil && found.Load() < int64(room) {
				answers[i].found, answers[i].err = find(sf)
				found.Add(int64(len(answers[i].found)))
			}
			return nil
		})
	}
	_ = g.Wait() // each has its error
	return answers
}

// byRemote finds the ID in the bucket.
func (l *lookup) byRemote(ctx context.Context, list []*sealedFile) {
	room := l.room()
	if room <= 0 {
		return
	}
	for i, a := range ask(ctx, list, room, func(sf *sealedFile) ([]segment.Found, error) { return sf.Find(ctx, l.id, room) }) {
		l.failed = errors.Join(l.failed, l.s.tellRemote(ctx, list[i], a.err))
		l.take(ctx, list[i], a.found, nil)
	}
}

// restOfRemote takes what the bucket has of the traces that were learnt.
func (l *lookup) restOfRemote(ctx context.Context, list []*sealedFile) {
	room := l.room()
	if room <= 0 || len(l.traces) == 0 {
		return
	}
	find := func(sf *sealedFile) ([]segment.Found, error) {
		if rest := l.rest(sf); len(rest) > 0 {
			return sf.FindTraces(ctx, rest, room)
		}
		return nil, nil
	}
	for i, a := range ask(ctx, list, room, find) {
		l.failed = errors.Join(l.failed, l.s.tellRemote(ctx, list[i], a.err))
		for _, f := range a.found {
			l.found = append(l.found, Found{f.Record, f.Edge})
		}
	}
}

// tellRemote counts what a look-up could not read in the bucket, and returns it as
// ErrIncomplete. What retention has removed meanwhile is not missed.
func (s *Store) tellRemote(ctx context.Context, sf *sealedFile, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, bucket.ErrNotFound) {
		return nil
	}
	s.remote.readFailures.Add(1)
	s.o.Logger.Warn("segment of the bucket is not read, some records are not found", "segment", sf.path, "error", err)
	return fmt.Errorf("%w: %w", ErrIncomplete, err)
}

// once drops records that come twice: two hubs have the batches that a sidecar
// sent to one that died before it answered, and to another.
func once(found []Found) []Found {
	type key struct {
		trace, span                  string
		start                        time.Time
		duration                     time.Duration
		reporter                     telemetryv1.Reporter
		source, destination, request string
	}
	seen := make(map[key]bool, len(found))
	kept := found[:0]
	for _, f := range found {
		r := &f.Record
		k := key{
			trace: string(r.TraceID[:]), span: string(r.SpanID[:]), start: r.Start.UTC(), duration: r.Duration, request: r.RequestID,
			reporter: f.Edge.GetReporter(), source: f.Edge.GetSource().GetInstance(), destination: f.Edge.GetDestination().GetInstance(),
		}
		if !seen[k] {
			seen[k] = true
			kept = append(kept, f)
		}
	}
	return kept
}

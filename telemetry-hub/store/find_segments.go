package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/bucket"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// remoteFinds is how many segments of the bucket one look-up asks at once: most
// answer from their index, which is here, and those that may have the ID from the
// bucket.
const remoteFinds = 16

// answer is what one segment gave.
type answer struct {
	found []segment.Found
	err   error
}

// ask asks segments, the newest first and some at once, until there is room for no
// more, and hands their answers on in that order.
func (l *lookup) ask(ctx context.Context, list []*sealedFile, find func(*sealedFile, int) ([]segment.Found, error), take func(*sealedFile, []segment.Found)) {
	room := l.room()
	if room <= 0 || len(list) == 0 {
		return
	}
	list = slices.Clone(list)
	slices.Reverse(list)
	answers := make([]answer, len(list))
	var found atomic.Int64
	var g errgroup.Group
	if g.SetLimit(remoteFinds); list[0].data != nil {
		g.SetLimit(runtime.GOMAXPROCS(0))
	}
	for i, sf := range list {
		g.Go(func() error {
			if ctx.Err() == nil && found.Load() < int64(room) {
				answers[i].found, answers[i].err = find(sf, room)
				found.Add(int64(len(answers[i].found)))
			}
			return nil
		})
	}
	_ = g.Wait() // each has its error
	for i, a := range answers {
		l.tell(ctx, list[i], a.err)
		take(list[i], a.found[:min(len(a.found), max(l.room(), 0))])
	}
}

// bySegments finds the ID in segments, and with it the traces of what is found as
// far as they are there.
func (l *lookup) bySegments(ctx context.Context, list []*sealedFile) {
	find := func(sf *sealedFile, room int) ([]segment.Found, error) { return sf.Find(ctx, l.id, room) }
	l.ask(ctx, list, find, func(sf *sealedFile, found []segment.Found) {
		whole := make(map[ids.TraceID]bool)
		for _, f := range found {
			l.found = append(l.found, Found{f.Record, f.Edge})
			if l.learn(f.Record.TraceID) {
				whole[f.Record.TraceID] = true
			}
		}
		if len(whole) > 0 {
			l.in[sf] = whole
		}
	})
}

// restOfSegments takes the traces that the ID itself did not lead to in a segment.
// None of their records there has the ID, or it would have.
func (l *lookup) restOfSegments(ctx context.Context, list []*sealedFile) {
	if len(l.traces) == 0 {
		return
	}
	find := func(sf *sealedFile, room int) ([]segment.Found, error) {
		var rest []ids.TraceID
		for trace := range l.traces {
			if !l.in[sf][trace] {
				rest = append(rest, trace)
			}
		}
		if len(rest) == 0 {
			return nil, nil
		}
		return sf.FindTraces(ctx, rest, room)
	}
	l.ask(ctx, list, find, func(_ *sealedFile, found []segment.Found) {
		for _, f := range found {
			l.found = append(l.found, Found{f.Record, f.Edge})
		}
	})
}

func (l *lookup) tell(ctx context.Context, sf *sealedFile, err error) {
	if sf.data != nil {
		l.s.tell(ctx, sf, err)
		return
	}
	l.failed = errors.Join(l.failed, l.s.tellRemote(ctx, sf, err))
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

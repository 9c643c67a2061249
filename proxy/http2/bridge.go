package http2

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// bridge carries one attempt of a stream to an upstream that speaks HTTP/1. Two
// goroutines move the bodies, because there is no connection of frames whose
// reader would: one takes the request's from the queue of the stream's upstream
// half, the other passes the answer on. Both give way when the stream's bridge
// is no longer this one; the stream may be another's by then.
//
// What is held of a request's body is bounded by the downstream's window, which
// is opened only as bytes go out; of an answer's by one buffer and what is queued
// downstream, because the next is read once that is gone.
type bridge struct {
	st     *stream
	target exchange.Target
	fields []exchange.Field
	end    bool // the request has no body
	cancel context.CancelFunc
	moved  sync.Cond // a part of the request came, or of the answer went; on the stream's lock
	sent   chan struct{}

	open exchange.Stream // nil until it is; guarded by the stream's lock
}

// bridgeBuffers hold the part of a body that is on its way.
var bridgeBuffers = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// overHTTP1 reports that the target needs a bridge.
func (st *stream) overHTTP1() bool {
	return st.target.Protocol == exchange.HTTP1 && st.server.o.OpenHTTP1 != nil
}

// cross begins an attempt over a bridge. The lock is held.
func (st *stream) cross() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(st.down.c.ctx)) // the stream's end ends it
	br := &bridge{st: st, target: st.target, fields: exported(st.req.fields), end: st.headOnly, cancel: cancel, sent: make(chan struct{})}
	br.target.Endpoint = nil // the attempt's
	br.moved.L = &st.mu
	st.bridge = br
	if !st.bridged {
		st.bridged = true
		st.down.c.watch(&st.down)
	}
	st.down.c.deciders.Go(func() { br.run(ctx) })
}

// uncross gives the bridge up. The lock is held.
func (st *stream) uncross() {
	br := st.bridge
	if br == nil {
		return
	}
	st.bridge = nil
	br.cancel()
	if br.open != nil {
		br.open.Close()
	}
	br.moved.Broadcast()
}

// wake tells the goroutines that something moved. The stream's lock is held; the
// bridge may be nil.
func (br *bridge) wake() {
	if br != nil {
		br.moved.Broadcast()
	}
}

// drained follows the emptying of the downstream's queue, and reports whether
// END_STREAM went out with it.
func (st *stream) drained() bool {
	st.bridge.wake()
	c := st.down.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return st.down.sentEnd
}

// watch has the half's sink told whenever its queue has gone out.
func (c *conn) watch(h *half) {
	c.mu.Lock()
	h.watched = true
	c.mu.Unlock()
}

// step locks the stream for f, if the bridge is still the stream's, and reports
// whether it was and is.
func (br *bridge) step(f func(b *batch)) bool {
	var b batch
	br.st.mu.Lock()
	current := br.st.bridge == br
	if current {
		f(&b)
		current = br.st.bridge == br
	}
	br.st.mu.Unlock()
	b.run()
	return current
}

func (br *bridge) run(ctx context.Context) {
	defer br.cancel()
	s, err := br.st.server.o.OpenHTTP1(ctx, br.target, br.fields, br.end)
	current := br.step(func(b *batch) {
		if err != nil {
			br.st.bridgeFailed(b, err)
			return
		}
		br.open = s
	})
	if err != nil {
		return
	}
	defer s.Close()
	if !current {
		return
	}
	if br.end {
		close(br.sent)
	} else {
		go br.send(s) // ends before run does
	}
	if br.answer(s) {
		br.conclude()
	}
	<-br.sent
}

// send moves the request's body until its end or the bridge's.
func (br *bridge) send(s exchange.Stream) {
	defer close(br.sent)
	buf := bridgeBuffers.Get().(*[maxFrame]byte)
	defer bridgeBuffers.Put(buf)
	for {
		n, end, trailers, ok := br.take(buf[:])
		if !ok {
			return
		}
		var err error
		if n > 0 {
			_, err = s.Write(buf[:n])
		}
		if err == nil && end {
			err = s.End(trailers)
		}
		if err != nil || end {
			return // an error shows when the answer is read
		}
	}
}

// take waits for a part of the body and takes it off the queue. The downstream
// may send as much again.
func (br *bridge) take(p []byte) (n int, end bool, trailers []exchange.Field, ok bool) {
	st := br.st
	var b batch
	st.mu.Lock()
	for st.bridge == br && st.up.pending() == 0 && !st.up.end {
		br.moved.Wait()
	}
	if ok = st.bridge == br; ok {
		up := &st.up
		n = copy(p, up.queue[up.off:])
		if up.off += n; up.pending() == 0 {
			up.queue, up.off = up.queue[:0], 0
		}
		st.taken = st.taken || n > 0
		paid := min(st.paid, n)
		st.paid -= paid
		if n > paid {
			b.credits = append(b.credits, creditDue{st.down.c, st.down.id, n - paid})
		}
		st.limits.moved = true
		if end = up.end && up.pending() == 0; end {
			trailers = exported(up.trailers)
		}
	}
	st.mu.Unlock()
	b.run()
	return n, end, trailers, ok
}

// answer passes the answer on, and reports whether it did to the end.
func (br *bridge) answer(s exchange.Stream) bool {
	st := br.st
	for final := false; !final; {
		fields, status, err := s.Head()
		final = status >= 200
		ended := err == nil && final && s.Ended()
		if !br.step(func(b *batch) {
			st.limits.moved = true
			if err != nil {
				st.bridgeFailed(b, err)
				return
			}
			st.answerHead(b, &fieldList{hpackFields(fields)}, ended)
		}) {
			return false
		}
		if ended {
			return true
		}
	}
	buf := bridgeBuffers.Get().(*[maxFrame]byte)
	defer bridgeBuffers.Put(buf)
	for {
		n, err := s.Read(buf[:])
		if !br.pass(s, buf[:n], err) {
			return false
		}
		if errors.Is(err, io.EOF) {
			return true
		}
	}
}

// pass sends a part of the answer down, or its end, and waits until the
// downstream can take more.
func (br *bridge) pass(s exchange.Stream, p []byte, err error) bool {
	st := br.st
	ok := br.step(func(b *batch) {
		st.limits.moved = true
		if len(p) > 0 {
			st.x.Record.BytesOut += uint64(len(p))
			st.down.c.sendData(b, &st.down, p, false)
		}
		switch {
		case errors.Is(err, io.EOF):
			st.answerTrailers(b, &fieldList{hpackFields(s.Trailers())}, true)
		case err != nil:
			st.bridgeFailed(b, err)
		}
	})
	if !ok || err != nil {
		return ok
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.bridge == br && st.down.c.backlog(&st.down) > 0 {
		br.moved.Wait()
	}
	return st.bridge == br
}

// finishWait is how long a request that is almost sent may take after its answer.
const finishWait = 20 * time.Millisecond

// conclude ends a request whose answer is complete: nobody reads the rest of it.
func (br *bridge) conclude() {
	select {
	case <-br.sent:
	case <-time.After(finishWait):
	}
	br.step(func(b *batch) {
		br.st.uncross()
		br.st.endRequest(b)
	})
}

// bridgeFailed ends an attempt over a bridge. The lock is held.
func (st *stream) bridgeFailed(b *batch, err error) {
	st.uncross()
	if st.limits.request != 0 && netio.Now() >= st.limits.request {
		st.expired(b, st.limits.request) // the upstream keeps the same deadline
		return
	}
	f := failure{kind: exchange.Reset, flag: vocab.FlagUpstreamTermination, cause: exchange.CauseTermination, status: 503}
	var why *exchange.StreamError
	if errors.As(err, &why) {
		f.kind, f.cause = why.Failure, why.Cause
	}
	switch {
	case f.cause == exchange.CauseOverflow:
		f.flag = vocab.FlagUpstreamOverflow
	case f.kind == exchange.ConnectFailure:
		f.flag = vocab.FlagUpstreamConnect
	case f.kind == exchange.ProtocolFailure:
		f.flag, f.status = vocab.FlagUpstreamProtocol, 502
	case f.kind == exchange.Timeout:
		f.flag, f.status = vocab.FlagUpstreamTimeout, 504
	}
	st.failed(b, f)
}

func hpackFields(fields []exchange.Field) []hpack.HeaderField {
	out := slices.Grow([]hpack.HeaderField(nil), len(fields))
	for _, f := range fields {
		out = append(out, hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	return out
}

package http2

import (
	"math"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// streamIdle ends a stream on which nothing moves, a stalled window included.
const streamIdle = 5 * time.Minute

// limits are a stream's deadlines, in nanoseconds of netio.Now, 0 for none. One
// timer serves them and stays armed from one stream to the next: to set it anew
// for each would cost more than its rare useless call.
type limits struct {
	request, try int64
	again        int64 // when the next attempt begins
	idle         time.Duration
	quietSince   int64
	moved        bool // something moved since quietSince
	timer        *time.Timer
	firesAt      int64 // 0 if the timer is not armed
}

// begin sets what the request itself asks for.
func (l *limits) begin(now int64, timeout string) {
	l.quietSince, l.idle = now, streamIdle
	if d, ok := parseGRPCTimeout(timeout); ok {
		l.request = now + int64(d)
	}
}

// target adds what the target asks for.
func (l *limits) target(start int64, t exchange.Timeouts) {
	if t.Request > 0 && (l.request == 0 || start+int64(t.Request) < l.request) {
		l.request = start + int64(t.Request)
	}
	if t.Idle > 0 {
		l.idle = t.Idle
	}
}

func (l *limits) attempt(now int64, perTry time.Duration) {
	if l.try = 0; perTry > 0 {
		l.try = now + int64(perTry)
	}
}

// backoff has the next attempt begin later.
func (l *limits) backoff(now int64, d time.Duration) { l.try, l.again = 0, now+int64(d) }

// head ends the attempt's deadline.
func (l *limits) head() { l.try = 0 }

func (l *limits) clear() {
	l.request, l.try, l.again, l.idle, l.moved = 0, 0, 0, 0, false
}

func (l *limits) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer, l.firesAt = nil, 0
	}
}

func (l *limits) next() int64 {
	next := l.quietSince + int64(l.idle)
	if l.request != 0 {
		next = min(next, l.request)
	}
	if l.try != 0 {
		next = min(next, l.try)
	}
	if l.again != 0 {
		next = min(next, l.again)
	}
	return next
}

// arm has the timer fire no later than the next deadline.
func (l *limits) arm(st *stream) {
	next := l.next()
	if l.firesAt != 0 && l.firesAt <= next {
		return
	}
	l.firesAt = next
	wait := max(time.Duration(next-netio.Now()), 0)
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, st.expire)
		return
	}
	l.timer.Reset(wait)
}

// expire is the timer's function.
func (st *stream) expire() {
	var b batch
	st.mu.Lock()
	st.limits.firesAt = 0
	if !st.ended && !st.deciding {
		st.expired(&b, netio.Now())
	}
	st.mu.Unlock()
	b.run()
}

func (st *stream) expired(b *batch, now int64) {
	l := &st.limits
	if l.moved {
		l.moved, l.quietSince = false, now
	}
	switch {
	case l.request != 0 && now >= l.request:
		l.request, l.again = math.MaxInt64, 0 // no second time, while the answer drains
		st.timedOut(b, failure{kind: exchange.Timeout, flag: vocab.FlagUpstreamTimeout, cause: "upstream_response_timeout", status: 504, code: errCancel, last: true})
	case l.try != 0 && now >= l.try:
		l.try = 0
		st.timedOut(b, failure{kind: exchange.Timeout, flag: vocab.FlagUpstreamTimeout, cause: "upstream_per_try_timeout", status: 504, code: errCancel})
	case l.again != 0 && now >= l.again:
		l.again = 0
		st.try(b)
	case now >= l.quietSince+int64(l.idle):
		st.timedOut(b, failure{kind: exchange.Local, flag: vocab.FlagStreamIdle, cause: "stream_idle_timeout", status: 408, code: errCancel, last: true})
	}
	if !st.ended {
		l.arm(st)
	}
}

// timedOut ends the attempt, or the rest of an answer that nobody takes.
func (st *stream) timedOut(b *batch, f failure) {
	if st.respEnd {
		st.x.Fail(f.flag, f.cause)
		st.down.c.reset(b, &st.down, f.code)
		st.finish(b)
		return
	}
	st.detach(b)
	st.failed(b, f)
}

// parseGRPCTimeout reads the grpc-timeout header: at most eight digits and a unit
// (gRPC over HTTP/2, "Timeout").
func parseGRPCTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	n, ok := parseLength(s[:len(s)-1])
	if !ok || n > int64(math.MaxInt64/4/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

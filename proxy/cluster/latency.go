package cluster

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// latency is a peak-sensitive moving average: a slower answer counts at once, a
// faster one only with time. The zero value has measured nothing. Safe for
// concurrent use without a lock: average and time share one word.
//
//	average = answer,                             if answer > average
//	        = average·w + answer·(1-w), w = e^(-t/10s),  otherwise
//
// where t is the time since the last change. Between answers it decays in the
// same way towards zero, so that an endpoint that was slow is tried again.
type latency struct {
	word atomic.Uint64 // float32 of milliseconds, then uint32 of ticks
}

const (
	decayTime = 10 * time.Second
	// tickBits: a tick is 2^20 ns, about a millisecond; 2^32 of them last for
	// 52 days. Of answers within one tick only slower ones count, which is a
	// sample of them.
	tickBits = 20
	// unmeasured is the latency in ms of an endpoint with requests under way
	// and no answer yet: a newcomer gets one at a time.
	unmeasured = 1000
	// least is the latency in ms below which endpoints count as equally fast:
	// what differs there is who was woken first, and a caller with few requests
	// would send them all to one endpoint.
	least = 1
	// failed is the least latency in ms after a failure, which often comes
	// faster than any answer and must not attract more.
	failed = 10
	// worst is the latency in ms that doubling ends at. It decays below a
	// millisecond within two minutes.
	worst = 10_000
)

func unpack(word uint64) (ms float64, tick uint32) {
	return float64(math.Float32frombits(uint32(word >> 32))), uint32(word)
}

func pack(ms float64, tick uint32) uint64 {
	return uint64(math.Float32bits(float32(ms)))<<32 | uint64(tick)
}

func weight(ticks uint32) float64 {
	return math.Exp(-float64(ticks) * (1 << tickBits) / float64(decayTime))
}

// observe takes an attempt's outcome in. A failure or a 5xx doubles the average
// and never lowers it.
func (l *latency) observe(o exchange.Outcome, now int64) {
	took := o.FirstByte
	if took == 0 {
		took = o.Duration
	}
	ms := float64(took) / float64(time.Millisecond)
	tick := uint32(now >> tickBits)
	for {
		word := l.word.Load()
		average, last := unpack(word)
		switch {
		case isError(o):
			average = min(max(ms, 2*average, failed), max(ms, average, worst))
		case ms >= average:
			average = ms
		case int32(tick-last) <= 0: // or another goroutine is ahead
			return
		default:
			w := weight(tick - last)
			average = average*w + ms*(1-w)
		}
		if l.word.CompareAndSwap(word, pack(average, tick)) {
			return
		}
	}
}

func isError(o exchange.Outcome) bool {
	return o.Failure != exchange.Success || o.Status >= 500
}

// load is average × (requests in flight + 1), the average being 1 ms at least.
func (l *latency) load(inFlight float64, now int64) float64 {
	average := l.value(now)
	if average == 0 {
		return unmeasured * inFlight
	}
	return max(average, least) * (inFlight + 1)
}

// value is the average in ms as decayed by now.
func (l *latency) value(now int64) float64 {
	average, last := unpack(l.word.Load())
	if tick := uint32(now >> tickBits); average > 0 && int32(tick-last) > 0 {
		average *= weight(tick - last)
	}
	return average
}

package netio

import (
	"sync/atomic"
	"time"
)

var start = time.Now()

// Now is the monotonic time since the process started, in nanoseconds: half the
// price of time.Now, and what durations are made of.
func Now() int64 { return int64(time.Since(start)) }

// The wall clock's distance from Now, and when it was looked at: a step of the
// wall clock shows within lookEvery.
var (
	offset = func() *atomic.Int64 { o := new(atomic.Int64); o.Store(start.UnixNano()); return o }()
	looked atomic.Int64
)

const lookEvery = int64(100 * time.Millisecond)

// Wall is the wall clock's time at now, a result of Now, without another look at
// a clock. It has no monotonic part.
func Wall(now int64) time.Time {
	if last := looked.Load(); now-last > lookEvery && looked.CompareAndSwap(last, now) {
		t := time.Now()
		offset.Store(t.UnixNano() - int64(t.Sub(start)))
	}
	return time.Unix(0, now+offset.Load())
}

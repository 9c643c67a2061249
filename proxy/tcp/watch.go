package tcp

import (
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// watch ends a pair that has been silent for its idle time. One timer that looks
// at the time of the last byte costs nothing for each byte, unlike a deadline.
type watch struct {
	pair *pair
	idle time.Duration

	mu      sync.Mutex // guards the fields below
	timer   *time.Timer
	stopped bool
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.idle, w.look)
}

func (w *watch) look() {
	silent := time.Duration(netio.Now() - w.pair.active.Load())
	if silent >= w.idle {
		w.pair.stop(Idle)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.idle - silent)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

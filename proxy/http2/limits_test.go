package http2

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// limited is a rig whose service has limits, and the upstream's view of it:
// requests wait there until release is called, and tell their connection.
type limited struct {
	*rig
	limits  *exchange.Limits
	release func()

	mu    sync.Mutex // guards the field below
	conns map[string]int
	came  chan struct{}
}

func newLimited(t *testing.T, limits *exchange.Limits) *limited {
	l := &limited{limits: limits, conns: map[string]int{}, came: make(chan struct{}, 64)}
	gate := make(chan struct{})
	l.release = sync.OnceFunc(func() { close(gate) })
	d := newDecider(app(t, func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.conns[r.RemoteAddr]++
		l.mu.Unlock()
		l.came <- struct{}{}
		<-gate
	}))
	d.target.Limits = limits
	l.rig = newRig(t, d)
	t.Cleanup(l.release)
	return l
}

func (l *limited) seen() (conns int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// ask sends a request and returns its status.
func (l *limited) ask(c *http.Client) int {
	resp, err := c.Get(url("/"))
	if err != nil {
		l.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // the status is all that is asked
	return resp.StatusCode
}

func TestAConnectionCarriesNoMoreRequestsThanItMay(t *testing.T) {
	l := newLimited(t, &exchange.Limits{PerConnection: 2})
	l.release()
	c := l.client()
	for range 5 {
		if status := l.ask(c); status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if n := l.seen(); n != 3 {
		t.Errorf("%d connections for 5 requests, want 3", n)
	}
}

func TestAConnectionGrowsNoOlderThanItMay(t *testing.T) {
	l := newLimited(t, &exchange.Limits{Lifetime: time.Millisecond})
	l.release()
	c := l.client()
	for range 3 {
		l.ask(c)
		time.Sleep(5 * time.Millisecond)
	}
	if n := l.seen(); n != 3 {
		t.Errorf("%d connections for 3 requests, want 3", n)
	}
}

// Two streams at once need two connections if one may have one; with one
// connection for the service the second waits, and a third has no place to.
func TestStreamsWaitWhereConnectionsAndStreamsAreLimited(t *testing.T) {
	l := newLimited(t, &exchange.Limits{Streams: 1, Connections: exchange.Gate{Limit: 1}, Pending: exchange.Gate{Limit: 1}})
	c := l.client()
	var asked sync.WaitGroup
	statuses := make(chan int, 3)
	asked.Go(func() { statuses <- l.ask(c) })
	<-l.came
	asked.Go(func() { statuses <- l.ask(c) })
	for l.limits.Pending.Used() == 0 {
		time.Sleep(time.Millisecond)
	}
	if status := l.ask(c); status != 503 {
		t.Errorf("the third request has status %d, want 503", status)
	}
	if rec := l.record(); rec.Flags != vocab.FlagUpstreamOverflow {
		t.Errorf("record %+v, want UO", rec)
	}
	l.release()
	asked.Wait()
	for range 2 {
		if status := <-statuses; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if n := l.seen(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	l.stop()
	if c, p := l.limits.Connections.Used(), l.limits.Pending.Used(); c != 0 || p != 0 {
		t.Errorf("%d connections and %d waiting hold places after the end", c, p)
	}
}

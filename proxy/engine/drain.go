package engine

import (
	"context"
	"fmt"
	"time"
)

// Drain says how an engine comes to its end.
type Drain struct {
	// Grace is how long requests in flight and tunnels may take. What is left
	// then is cut.
	Grace time.Duration
	// Silence is how long an HTTP/1 connection must have been silent to be
	// closed before that: its next request may be on its way already.
	Silence time.Duration
}

// silence of an ordinary drain: callers are sidecars, which send a request that
// a kept connection did not take once more.
const silence = time.Second

// Run serves until ctx ends or Drain is called, then refuses new connections,
// lets requests in flight, tunnels included, finish for up to grace and cuts
// what is left. It returns when no exchange is left.
//
// It closes its descriptors of the listeners and nothing else of them: a process
// that has others goes on accepting from the same queues.
func (e *Engine) Run(ctx context.Context, grace time.Duration) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	failed := e.acceptAll(requests)
	var broken error
	d := Drain{Grace: grace, Silence: silence}
	select {
	case err := <-failed:
		failed <- err // for the end
		broken = fmt.Errorf("serve %s listener: %w", e.o.Direction, err)
	case d = <-e.drains:
	case <-e.aborted:
	case <-ctx.Done():
	}
	e.closeListeners()
	for range cap(failed) {
		<-failed
	}
	e.http1.Drain(d.Silence)
	e.http2.Drain()
	served := make(chan struct{})
	go func() { e.serving.Wait(); e.http1.Wait(); close(served) }()
	cut := time.NewTimer(d.Grace)
	defer cut.Stop()
	select {
	case <-served:
	case <-cut.C:
	case <-e.aborted:
	}
	end()
	<-served
	e.http1.Close()
	e.http2.Close()
	return broken
}

// Drain has Run come to its end, and does not wait for it. Only the first call
// counts.
func (e *Engine) Drain(d Drain) {
	select {
	case e.drains <- d:
	default:
	}
}

// Abort cuts every connection at once.
func (e *Engine) Abort() { e.abort() }

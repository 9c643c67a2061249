package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/proxy/admin"
	"github.com/telemesh/telemesh/proxy/engine"
)

// Phase is how far a sidecar is in its life.
type Phase string

// The phases, in their order. The last two exclude each other.
const (
	Starting   Phase = "starting"
	Serving    Phase = "serving"
	Draining   Phase = "draining"    // stopping, or told to by POST /drain
	HandedOver Phase = "handed over" // a newer process serves
)

const (
	// withdrawal is how long the hub may take to tell callers that this sidecar
	// is not to be chosen any more, and settling what they may take after that.
	withdrawal = 200 * time.Millisecond
	settling   = 20 * time.Millisecond
	// silence of an inbound connection before it is closed in a drain: callers
	// are sidecars, which send a request that a kept connection did not take once
	// more. Programs do not, so after a hand-over a silent connection is left
	// alone until the end.
	inboundSilence = time.Second
	forEver        = 24 * time.Hour
)

// life is where a sidecar is between its start and its end.
//
// It comes to its end in one of three ways. Stopped (Run's ctx ends): callers
// are told through the hub, the inbound listener closes and its requests finish;
// the outbound one serves until the application is gone, and all is over after
// the drain time. Told to drain: likewise, but the outbound listener waits for
// the stop. Handed over: both listeners are the new process' now, and what is
// under way here finishes.
type life struct {
	drain, yield, withdrawn, abort *event

	mu    sync.Mutex // guards the field below
	phase Phase
}

func newLife() life {
	return life{drain: newEvent(), yield: newEvent(), withdrawn: newEvent(), abort: newEvent(), phase: Starting}
}

// enter begins a phase unless a later one has begun.
func (l *life) enter(next Phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != HandedOver && (next != Serving || l.phase == Starting) {
		l.phase = next
	}
}

func (l *life) in(phase Phase) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase == phase
}

// event is something that happens once.
type event struct {
	once sync.Once
	done chan struct{}
}

func newEvent() *event { return &event{done: make(chan struct{})} }

func (e *event) happen() { e.once.Do(func() { close(e.done) }) }

// Drain begins to drain; the process stays until Run's ctx ends. It does not
// wait, and a second call does nothing.
func (p *Proxy) Drain() { p.life.drain.happen() }

// Abort ends Run soon, whatever is under way: connections are cut, the last
// telemetry is still sent.
func (p *Proxy) Abort() { p.life.abort.happen() }

// Ready implements admin.Source: a sidecar is ready as soon as it listens; a
// missing hub does not make it less so.
func (p *Proxy) Ready() error {
	p.life.mu.Lock()
	defer p.life.mu.Unlock()
	if p.life.phase != Serving {
		return errors.New(string(p.life.phase))
	}
	return nil
}

// Life implements admin.Source.
func (p *Proxy) Life() admin.Life {
	in, _, _, _ := p.inbound.Saturation()
	out, _, _, _ := p.outbound.Saturation()
	p.life.mu.Lock()
	defer p.life.mu.Unlock()
	return admin.Life{State: string(p.life.phase), InboundInFlight: in, OutboundInFlight: out}
}

// serve runs the engines until they have come to their end.
func (p *Proxy) serve(ctx, parts context.Context) error {
	engines, failed := errgroup.WithContext(parts)
	engines.Go(func() error { return p.inbound.Run(failed, p.config.DrainTime) })
	engines.Go(func() error { return p.outbound.Run(failed, p.config.DrainTime) })
	over, end := context.WithCancel(failed)
	defer end()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		select {
		case <-p.life.abort.done:
			p.inbound.Abort()
			p.outbound.Abort()
			end()
		case <-over.Done():
		}
	}()
	engines.Go(func() error { p.finish(ctx, over); return nil })
	err := engines.Wait()
	end()
	<-stop
	return err
}

// finish waits for the end of ctx or what else ends a sidecar's life, and brings
// the engines to theirs. It returns early when over does.
func (p *Proxy) finish(ctx, over context.Context) {
	select {
	case <-over.Done():
		return
	case <-p.life.yield.done:
		d := engine.Drain{Grace: p.config.DrainTime, Silence: forEver}
		p.inbound.Drain(d)
		p.outbound.Drain(d)
		return
	case <-p.life.drain.done:
	case <-ctx.Done():
	}
	p.withdraw(over)
	p.inbound.Drain(engine.Drain{Grace: p.config.DrainTime, Silence: inboundSilence})
	select {
	case <-over.Done():
		return
	case <-ctx.Done():
	}
	limit := time.Now().Add(p.config.DrainTime)
	gone, cancel := context.WithDeadline(over, limit)
	defer cancel()
	p.awaitApplicationsEnd(gone)
	p.outbound.Drain(engine.Drain{Grace: max(0, time.Until(limit)), Silence: inboundSilence})
}

// withdraw tells the hub that callers shall choose others, and gives it a moment
// to do so. A caller that has not heard of it by then finds the port closed and
// tries another endpoint.
func (p *Proxy) withdraw(ctx context.Context) {
	p.life.enter(Draining)
	p.log.Info("draining", "drainTime", p.config.DrainTime.String())
	p.tellHealth("")
	if p.config.AppAddress == "" || !p.discovery.Connected() {
		return
	}
	limit := time.NewTimer(withdrawal)
	defer limit.Stop()
	select {
	case <-limit.C:
		return
	case <-ctx.Done():
		return
	case <-p.life.withdrawn.done:
	}
	settled := time.NewTimer(settling)
	defer settled.Stop()
	select {
	case <-settled.C:
	case <-ctx.Done():
	}
}

// noticeWithdrawal looks whether the hub has stopped offering this sidecar: what
// it tells this one it tells all at the same time.
func (p *Proxy) noticeWithdrawal(services []*discoveryv1.Service) {
	if !p.life.in(Draining) {
		return
	}
	for _, s := range services {
		for _, e := range s.GetEndpoints() {
			if e.GetInstance() == p.config.Instance && e.GetHealthy() {
				return
			}
		}
	}
	p.life.withdrawn.happen()
}

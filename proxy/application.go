package proxy

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

const (
	// probeEvery is how often the application's port is tried, goneEvery while
	// its end is waited for.
	probeEvery = time.Second
	goneEvery  = 100 * time.Millisecond
)

// appState is what the sidecar knows of the workload's own process.
type appState struct {
	reachable atomic.Bool
}

// probe tries the application's port, so that a dead application shows without
// traffic and a new one is found again.
func (p *Proxy) probe(ctx context.Context) error {
	if p.config.AppAddress == "" {
		p.setAppHealth(true, "")
		return nil
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for fast := 0; ; fast++ {
		switch err := p.dialApplication(ctx); {
		case err == nil:
			p.setAppHealth(true, "")
		case ctx.Err() == nil:
			p.setAppHealth(false, err.Error())
		}
		wait := tick.C
		if fast < 50 && !p.app.reachable.Load() { // a starting application is found at once
			wait = time.After(50 * time.Millisecond)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Proxy) dialApplication(ctx context.Context) error {
	dialer := net.Dialer{Timeout: probeEvery}
	c, err := dialer.DialContext(ctx, "tcp", p.config.AppAddress)
	if err == nil {
		_ = c.Close() // it answered, which is all that was asked
	}
	return err
}

func (p *Proxy) setAppHealth(reachable bool, detail string) {
	if p.app.reachable.Swap(reachable) != reachable {
		p.log.Info("application reachability changed", "reachable", reachable, "detail", detail)
		p.tellHealth(detail)
	}
}

// tellHealth tells the hub whether the workload shall have requests. One that
// drains shall not, whatever its application says.
func (p *Proxy) tellHealth(detail string) {
	p.life.mu.Lock()
	defer p.life.mu.Unlock()
	if p.life.phase == Serving || p.life.phase == Starting {
		p.discovery.SetHealth(p.app.reachable.Load(), detail)
	} else {
		p.discovery.SetHealth(false, "draining")
	}
}

// awaitApplicationsEnd waits until the application's port takes no connection,
// or until ctx ends. One that does not answer in time may only be busy.
func (p *Proxy) awaitApplicationsEnd(ctx context.Context) {
	if p.config.AppAddress == "" {
		return
	}
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		err := p.dialApplication(ctx)
		var slow net.Error
		if err != nil && ctx.Err() == nil && !(errors.As(err, &slow) && slow.Timeout()) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

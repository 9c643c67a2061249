package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemesh/telemesh/proxy/accesslog"
)

// flushGrace is how long the hub may take to acknowledge the last telemetry.
const flushGrace = 2 * time.Second

// Run serves until ctx ends or a newer process has taken over, and comes to its
// end as life says: nothing under way is cut before the drain time is over, and
// the last telemetry is flushed before it returns.
func (p *Proxy) Run(ctx context.Context) error {
	// Telemetry outlives the engines: their last requests must be told.
	telemetry, stopTelemetry := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTelemetry()
	sent := make(chan error, 1)
	go func() { sent <- p.sender.Run(telemetry, flushGrace) }()
	logged := p.runAccessLog(telemetry)

	err := p.runParts(ctx)
	stopTelemetry()
	flushed := make(chan struct{})
	var hurry sync.WaitGroup
	hurry.Go(func() { p.hurryUp(ctx, flushed) })
	if sendErr := <-sent; sendErr != nil {
		p.log.Warn("last telemetry was not acknowledged", "error", sendErr)
	}
	close(flushed)
	hurry.Wait()
	if logErr := <-logged; logErr != nil {
		p.log.Warn("access log", "error", logErr)
	}
	_ = p.hub.Close() // every stream has ended
	p.access.Close()
	p.log.Info("sidecar stopped")
	return err
}

// hurryUp has the last flush give up when the process is told to stop, or to cut.
func (p *Proxy) hurryUp(ctx context.Context, flushed <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-p.life.abort.done:
	case <-flushed:
		return
	}
	p.sender.Insist(0)
}

// runParts runs everything but telemetry. What the engines need outlives them,
// and so does the admin port.
func (p *Proxy) runParts(ctx context.Context) error {
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	running, parts := errgroup.WithContext(parts)
	running.Go(func() error {
		defer stopParts()
		return p.serve(ctx, parts)
	})
	running.Go(func() error { return p.admin.Run(parts, p.listeners[2]) })
	running.Go(func() error { return p.discovery.Run(parts) })
	running.Go(func() error { return p.leases.Run(parts, p.hub) })
	running.Go(func() error { return p.probe(parts) })
	if p.tls != nil {
		running.Go(func() error { return p.tls.Run(parts) })
	}
	p.life.enter(Serving)
	running.Go(func() error { return p.succeed(parts) })
	p.log.Info("sidecar started", "inbound", p.InboundAddress(), "outbound", p.OutboundAddress(),
		"admin", p.AdminAddress(), "application", p.config.AppAddress, "hub", p.config.HubAddress)
	return running.Wait()
}

// openAccessLog opens the log that the operator asked for; nil if none.
func openAccessLog(path, format string, log *slog.Logger) (*accesslog.Log, error) {
	o := accesslog.Options{Path: path, Format: format, Logger: log}
	switch {
	case path == "":
		return nil, nil
	case path == "-":
		o.Path = accesslog.Stdout
	}
	if format == "json" {
		o.Format, o.JSON = "", accesslog.IstioJSON()
	}
	l, err := accesslog.New(o)
	if err != nil {
		return nil, fmt.Errorf("--access-log: %w", err)
	}
	return l, nil
}

// runAccessLog writes the access log until ctx ends. It opens its file anew on
// SIGHUP, as log rotation expects.
func (p *Proxy) runAccessLog(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	if p.accessLog == nil {
		ended <- nil
		return ended
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-hangup:
				p.accessLog.Reopen()
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() { ended <- p.accessLog.Run(ctx) }()
	return ended
}

// Observed counts the requests that the sidecar has served so far.
func (p *Proxy) Observed() uint64 { return p.store.Observed() }
